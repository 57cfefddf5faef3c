# shellcheck shell=sh
# KTAP of several boots, for a script that has boot() and $out: part for each boot, then end.
n=0 status=0
echo "KTAP version 1"

# part NAME [ARGUMENT...]: a boot with these arguments is one result, those of its tests are below it
part() {
	name=$1
	shift
	n=$((n + 1))
	echo "# Subtest: $name"
	# shellcheck disable=SC2154 # out is the script's
	{ boot "$@"; echo $? > "$out/status"; } | sed 's/^/    /'
	if [ "$(cat "$out/status")" = 0 ]; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		status=1
	fi
}

end() {
	echo "1..$n"
	exit $status
}
