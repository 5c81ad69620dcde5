"""The page of the pack: counts the visits of one browser and lists the ships of the database.

The session lives in redis; the browser only holds its random id, in a cookie. The rows come from
MySQL. Either may start later than this process: a database that does not answer yet is asked again
for some seconds, then the page says which one is missing, with status 503.
"""

import os
import secrets
import signal
import sys
import time

import pymysql
import redis
import waitress
from flask import Flask, make_response, render_template, request

COOKIE = "pack-session"
LIFETIME_S = 3600
PATIENCE_S = 20

app = Flask(__name__)
sessions = redis.Redis(host=os.environ.get("REDIS_HOST", "redis"), port=6379, decode_responses=True, socket_timeout=5)


class Missing(Exception):
    """A service that this page needs does not answer."""


def patiently(name, ask, error):
    """Calls `ask` until it returns, at most PATIENCE_S long; then raises Missing(name)."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except error as cause:
            if time.monotonic() > end:
                raise Missing(f"{name} does not answer: {cause}") from cause
            time.sleep(0.5)


def visit(session):
    """Counts one visit in `session`, or in a new session if redis does not know it (any more)."""
    if not session or not sessions.exists(f"session:{session}"):
        session = secrets.token_urlsafe(24)
    key = f"session:{session}"
    count = sessions.hincrby(key, "visits", 1)
    sessions.expire(key, LIFETIME_S)
    return session, count


def ships():
    """The rows that the database was filled with at its first start."""
    connection = pymysql.connect(
        host=os.environ.get("MYSQL_HOST", "mysql-server"),
        user=os.environ.get("MYSQL_USER", "flask"),
        password=os.environ.get("MYSQL_PASSWORD", "flask"),
        database="pack",
        charset="utf8mb4",
        connect_timeout=5,
        cursorclass=pymysql.cursors.DictCursor,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, yard, launched FROM ships ORDER BY launched")
        return cursor.fetchall()


@app.get("/")
def page():
    session, count = patiently("redis", lambda: visit(request.cookies.get(COOKIE)), redis.RedisError)
    rows = patiently("mysql-server", ships, pymysql.MySQLError)
    response = make_response(render_template("page.html", visits=count, ships=rows))
    response.set_cookie(COOKIE, session, httponly=True, samesite="Lax")
    return response


@app.errorhandler(Missing)
def missing(error):
    return f"{error}\n", 503, {"Content-Type": "text/plain; charset=utf-8", "Retry-After": "2"}


if __name__ == "__main__":
    # A container's first process ignores SIGTERM unless it says otherwise; then `stop` takes ten seconds.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    waitress.serve(app, listen="0.0.0.0:8080")
