# What the stage makes of the file is the same as before.
echo two >source
