#!/bin/sh
# A venv made under DESTDIR will run elsewhere: contrib/relocate.sh WHERE FINAL rewrites its scripts' first lines.
set -eu
where=$1 final=$2
[ "$where" != "$final" ] || exit 0
for script in "$where"/bin/*; do
    if [ -f "$script" ] && [ ! -L "$script" ] && head -c 2 "$script" | grep -q '#!'; then
        sed -i "1s|^#!$where/|#!$final/|" "$script"
    fi
done
sed -i "s|$where|$final|g" "$where"/bin/activate* "$where/pyvenv.cfg"
