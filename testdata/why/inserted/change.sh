# An instruction in the middle.
sed -i '/two/i RUN echo between > between' Dockerfile
