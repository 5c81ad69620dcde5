# Its name means another image.
tar -cf ../base.tar -C base-2 .
"$SHIPWAY" image import ../base.tar base
