# An image that is only copied from at first.
tar -cf ../tools.tar -C image .
"$SHIPWAY" image import ../tools.tar tools
