# An ignored file, a file that no step copies, modification times, a comment.
echo more >>src/a.log
echo more >>README.md
touch src/file
echo '# the end' >>Dockerfile
