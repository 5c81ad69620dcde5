#!/usr/bin/env python3
"""trace.py TRACE.json: a trace of `build --trace` as an SVG, a row for each of its threads."""
import json
import sys
from html import escape

WIDTH, ROW, LEFT, TOP = 900, 24, 130, 24
COLOURS = {"build": "#b7c4d6", "steps": "#7fb37a", "transfers": "#d9b36c", "engine": "#c58fb0"}


def colour(event):
    return COLOURS.get(event.get("cat", ""), "#9aa7b8")


def rows(events):
    """The names of threads by their numbers, in the order of the numbers."""
    names = {e["tid"]: e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    used = {e["tid"] for e in events if e["ph"] == "X"}
    return {tid: names.get(tid, str(tid)) for tid in sorted(used)}


def main():
    trace = json.load(open(sys.argv[1], encoding="utf-8"))
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    bars = [e for e in events if e["ph"] == "X"]
    end = max(e["ts"] + e["dur"] for e in bars)
    names = rows(events)
    place = {tid: TOP + index * ROW for index, tid in enumerate(names)}
    height = TOP + len(names) * ROW + 8
    scale = (WIDTH - LEFT - 10) / end
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
          'font-family="sans-serif" font-size="11">')
    print(f'<rect width="{WIDTH}" height="{height}" fill="white"/>')
    seconds = end / 1e6
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 600, 3600) if seconds / s <= 12)
    for mark in range(int(seconds / step) + 1):
        x = LEFT + mark * step * 1e6 * scale
        print(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height}" stroke="#e4e8ee"/>'
              f'<text x="{x:.1f}" y="{TOP - 9}" fill="#667">{mark * step:g} s</text>')
    for tid, name in names.items():
        print(f'<text x="6" y="{place[tid] + 15}" fill="#334">{escape(name)}</text>')
    for event in bars:
        x, wide = LEFT + event["ts"] * scale, max(event["dur"] * scale, 0.6)
        y = place[event["tid"]] + 2
        letters = int((wide - 6) / 6)
        name = event["name"] if len(event["name"]) <= letters else event["name"][:max(letters - 1, 0)] + "…"
        print(f'<g><title>{escape(event["name"])}: {event["dur"] / 1e6:.2f} s</title>'
              f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 4}" rx="2" fill="{colour(event)}"/>'
              + (f'<text x="{x + 3:.1f}" y="{y + 14}" fill="#112">{escape(name)}</text>' if letters > 3 else "")
              + '</g>')
    print("</svg>")


main()
