# Two instructions say something else.
sed -i -e 's/^COPY.*/COPY --chmod=600 a \/app\//' -e 's/^RUN.*/RUN cat a > both/' Dockerfile
