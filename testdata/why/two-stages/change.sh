# A file of the first stage makes everything run.
echo more >>package-lock.json
