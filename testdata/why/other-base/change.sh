# What was copied from is the base now.
sed -i 's/^FROM.*/FROM tools/' Dockerfile
