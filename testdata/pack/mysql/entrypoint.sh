#!/bin/sh
# Makes and fills the database at the first start of the container, then becomes the server.
# A first start that was interrupted is done again from the beginning.
set -eu

data=/var/lib/mysql
filled=$data/.filled
: "${MYSQL_ROOT_PASSWORD:?must be set: the password of the database user root}"

sql_string() {
  printf "'%s'" "$(printf %s "$1" | sed "s/[\\\\']/\\\\&/g")"
}

fill() {
  find "$data" -mindepth 1 -delete
  mariadb-install-db --user=mysql --datadir="$data" --skip-test-db >/dev/null
  password=$(sql_string "$MYSQL_ROOT_PASSWORD")
  {
    cat <<SQL
FLUSH PRIVILEGES;
ALTER USER root@localhost IDENTIFIED BY $password;
CREATE USER root@'%' IDENTIFIED BY $password;
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
SQL
    cat /usr/local/share/pack/init.sql
  } | mariadbd --user=mysql --datadir="$data" --bootstrap
  touch "$filled"
}

install -d -o mysql -g mysql /run/mysqld
if [ ! -e "$filled" ]; then
  echo "entrypoint: first start, filling the database"
  fill
  echo "entrypoint: database filled"
fi
exec "$@"
