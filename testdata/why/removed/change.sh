# An instruction of the middle is gone.
sed -i '/two/d' Dockerfile
