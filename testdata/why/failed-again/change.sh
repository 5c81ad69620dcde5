# The first build had no file for its secret; nothing else changed.
echo open >gate
