#!/bin/sh
# table.sh LOG: the Markdown tables of the RMP's transitions from the output of the tests walk_*
awk '/^#\| \|/ { if (n++) print ""; print "**" (n == 1 ? "4K pages" : n == 2 ? "2M pages" : "Pages without an entry") "**"; print "" } /^#\|/ { print substr($0, 2) }' "$1"
