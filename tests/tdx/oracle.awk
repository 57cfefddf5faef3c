# Makes C of the tables in oracle/: the columns for states that exist without migration.
FNR == 1 { file++; print file == 1 ? "/* Made by oracle.awk */" : "" }
/^#/ { next }
file == 1 && $1 == "leaf" { print "static const struct oracle_op { int leaf; const char *name; int allowed[3]; } oracle_op[] = {"; next }
file == 1 { printf "\t{ %d, \"%s\", { %d, %d, %d } },\n", $1, $2, $3, $4, $5; next }
file == 2 && $1 == "kind" {
	print "};\nstatic const struct oracle_sept { int tdcall, leaf; const char *name; int allowed[7]; } oracle_sept[] = {"
	for (i = 4; i <= NF; i++)
		column[$i] = i
	next
}
file == 2 {
	printf "\t{ %d, %d, \"%s\", { %d, %d, %d, %d, %d, %d, %d } },\n", $1 == "tdcall", $2, $3, $column["FREE"], $column["NL_MAPPED"],
		$column["NL_BLOCKED"], $column["MAPPED"], $column["BLOCKED"], $column["PENDING"], $column["PENDING_BLOCKED"]
	next
}
file == 3 && $1 == "name" { print "};\nenum {"; next }
file == 3 { status = status sprintf("#define %s %sUL\n", $1, $2) }
END { print "\tORACLE_NONE\n};\n" status }
