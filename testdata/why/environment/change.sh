# One variable of ENV changed, one went, one came.
sed -i 's/^ENV .*/ENV COLOUR=blue SIZE=large/' Dockerfile
