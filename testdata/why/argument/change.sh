# A build argument has another value.
sed -i 's/1\.0/1.1/' compose.yaml
