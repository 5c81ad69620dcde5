# A file added, one edited, one removed, one with another mode, a link that points elsewhere.
echo new >src/added
echo more >>src/edited
rm src/gone
chmod 755 src/tool
ln -sf tool src/link
