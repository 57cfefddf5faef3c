#!/bin/sh
# table.sh LOG: the Markdown tables of the RMP's transitions from the output of the tests walk_*; docs/snp-emulator.md has them
awk '
BEGIN {
	split("hypervisor=HV HV-fixed=FX reclaim=RC firmware=FW context=CX pre-guest=PG guest-invalid=GI pre-swap=PS guest-valid=GV", s, " ")
	split("4K pages=2M pages=no entry", title, "=")
}
function flush(i) {
	for (i = 1; i <= n; i++)
		print "| " name[i] " |" cells[i]
	n = 0
}
/^#\|-/ { print substr($0, 2); next }
/^#\|/ {
	sub(/^#\| */, "")
	first = $0; sub(/ *\|.*/, "", first)
	rest = $0; sub(/^[^|]*\|/, "", rest)
	gsub(/0 -> /, "", rest)
	for (i in s) {
		split(s[i], p, "=")
		gsub(" " p[1] " ", " " p[2] " ", rest)
	}
	gsub(/#NPF RMP\+ENC\+SIZEM/, "#NPF+S", rest); gsub(/#NPF RMP\+ENC/, "#NPF", rest); gsub(/#NPF RMP/, "#NPF-E", rest)
	gsub(/#PF RMP/, "#PF", rest); gsub(/#VC 404/, "#VC", rest); gsub(/INVALID/, "inv", rest)
	gsub(/0, CF/, "CF", rest); gsub(/ \(unproved\)/, "?", rest)
	if (first == "") {
		flush()
		if (tables++)
			print ""
		print "| " title[tables] " |" rest
		next
	}
	# Rows that say the same are one.
	for (i = 1; i <= n && cells[i] != rest; i++)
		;
	if (i > n) {
		cells[++n] = rest
		name[n] = first
	} else {
		name[i] = name[i] "; " first
	}
}
END { flush() }' "$1"
