# SPDX-License-Identifier: MIT
#
# What the Linux side of tests/manage/taker sees: who has pages on loan loses them, nobody else does.
cd /tmp
lines=
verdict() { # WHAT CONDITION...
    what=$1 && shift
    "$@" && lines="${lines}PASS loan: $what\n" || lines="${lines}FAIL loan: $what\n"
}
begin() { # NAME MiB
    /test/replace hold "$2" >"$1" &
    until grep -qs holds "$1"; do sleep 0.1; done
}
end() { # PROCESS: its exit status
    kill -USR1 "$1"
    wait "$1"
    status=$?
}
begin beside 8
beside=$!
begin there 70
there=$!
i=0
until dmesg | grep -q 'taken by force' || [ $i = 600 ]; do
    sleep 0.1
    i=$((i + 1))
done
end $there
verdict "who had pages there gets SIGBUS" [ $status = 135 ]
end $beside
verdict "who had none has all of its data" grep -q whole beside
before=$(free | awk '/Mem/ { print $2 }')
i=0
until [ "$(free | awk '/Mem/ { print $2 }')" -gt $((before + 60000)) ] || [ $i = 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
begin again 70
end $!
verdict "it comes back and is used again" grep -q whole again
printf "$lines"
