# The first build failed in the instruction that is edited here.
sed -i 's/missing/file/' Dockerfile
