#!/bin/sh
# make deb: a package for this Debian or Ubuntu (its Python's version goes into it), in build/.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
version=${VERSION:-$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$here/lmxd/__init__.py")}
architecture=$(dpkg --print-architecture)
python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
root=$here/build/deb
package=$here/build/lmxd_${version}_$architecture.deb

rm -rf "$root"
umask 022
PORTABLE=1 make -C "$here" install DESTDIR="$root" PREFIX=/usr LIBDIR=/usr/lib/lmxd PYTHON=/usr/bin/python3

# What a package brings, it brings whole: nothing of the build, no byte code that Python would write anew.
rm -f "$root"/usr/lib/lmxd/.installed-* "$root"/usr/lib/lmxd/.gitignore
rm -rf "$root"/usr/lib/lmxd/lib/python*/site-packages/pip* "$root"/usr/lib/lmxd/bin/pip* "$root"/usr/lib/lmxd/bin/[Aa]ctivate*
rm -f "$root"/usr/lib/lmxd/lib64
find "$root" -name __pycache__ -prune -exec rm -rf {} +
find "$root" -type d -exec chmod 755 {} +
find "$root/usr/lib/lmxd/lib" -type f -name '*.so*' -exec chmod 644 {} +
find "$root" -name '*.py' -exec chmod 644 {} +
gzip -9n "$root"/usr/share/man/man*/*
ln -sfn ../lib/lmxd/bin/lmxd "$root/usr/bin/lmxd"
ln -sfn ../lib/lmxd/bin/lmxctl "$root/usr/bin/lmxctl"
ln -sfn ../../../bin/python3 "$root/usr/lib/lmxd/bin/python3"

# The first configuration is copied into its place by postinst. As a conffile it would have every upgrade that changes a
# comment in it ask whoever has added models, and fail where nobody can answer.
mv "$root/etc/lmxd/config.yaml" "$root/usr/share/lmxd/config.yaml"
rm -r "$root/etc"

install -d "$root/DEBIAN" "$root/usr/share/doc/lmxd" "$root/usr/share/lintian/overrides"
install -m 644 "$here/contrib/deb/copyright" "$root/usr/share/doc/lmxd/copyright"
rm "$root/usr/share/doc/lmxd/LICENSE" # the copyright says where Debian has it
install -m 644 "$here/contrib/deb/lintian-overrides" "$root/usr/share/lintian/overrides/lmxd"
{
    printf 'lmxd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n' "$version"
    printf ' -- lmxd <lmxd@localhost>  %s\n' "$(date -R -r "$here/CHANGELOG.md")"
} | gzip -9n >"$root/usr/share/doc/lmxd/changelog.gz"
for script in postinst prerm postrm; do
    install -m 755 "$here/contrib/deb/$script" "$root/DEBIAN/$script"
done
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@PYTHON@/$python/; s/@NEXT@/$next/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" "$here/contrib/deb/control" >"$root/DEBIAN/control"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zxz -z1 --build "$root" "$package" >/dev/null
rm -rf "$root"
echo "$package"
