# The image loses its name, and what only it held goes.
"$SHIPWAY" image rm app
"$SHIPWAY" cache prune --force
