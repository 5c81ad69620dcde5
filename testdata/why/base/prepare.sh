# The base image that the first build finds.
tar -cf ../base.tar -C base-1 .
"$SHIPWAY" image import ../base.tar base
