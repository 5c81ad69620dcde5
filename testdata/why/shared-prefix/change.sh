# A file that both services begin with.
echo more >>common
