#!/usr/bin/env bash
# Builds what is released into dist/: a stripped binary with unit and settings as a tarball, a Debian package, checksums.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
target=${CARGO_TARGET_DIR:-$PWD/target}
arch=$(dpkg --print-architecture 2>/dev/null || uname -m)
cargo build --release --locked -p server
rm -rf dist
name=sluice-$version-linux-$arch
mkdir -p "dist/$name"
install -m 0755 "$target/release/sluice" "dist/$name/sluice"
strip "dist/$name/sluice"
install -m 0644 packaging/sluice.service packaging/sluice.socket sluice.default.toml README.md LICENSE CHANGELOG.md "dist/$name/"
tar -C dist --owner=0 --group=0 --numeric-owner -czf "dist/$name.tar.gz" "$name"

if command -v dpkg-deb >/dev/null; then
  root=dist/deb
  install -D -m 0755 "dist/$name/sluice" "$root/usr/bin/sluice"
  install -D -m 0644 packaging/sluice.service "$root/lib/systemd/system/sluice.service"
  install -D -m 0644 packaging/sluice.socket "$root/lib/systemd/system/sluice.socket"
  install -D -m 0644 sluice.default.toml "$root/etc/sluice/sluice.toml"
  install -D -m 0644 README.md "$root/usr/share/doc/sluice/README.md"
  install -D -m 0644 LICENSE "$root/usr/share/doc/sluice/copyright"
  mkdir -p "$root/DEBIAN"
  echo /etc/sluice/sluice.toml > "$root/DEBIAN/conffiles"
  cat > "$root/DEBIAN/control" <<CONTROL
Package: sluice
Version: $version
Architecture: $arch
Maintainer: Sluice maintainers <maintainers@sluice.invalid>
Section: net
Priority: optional
Depends: libc6 (>= 2.36), adduser
Description: self-hosted product analytics that speaks Mixpanel's wire
 One binary and one data directory. Official SDKs and export scripts run
 against it unchanged: change the host, keep the code.
CONTROL
  cat > "$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  adduser --system --group --home /var/lib/sluice --no-create-home sluice >/dev/null
  install -d -o sluice -g sluice -m 0700 /var/lib/sluice
  # The key file is made here on the first start; it stays out of backups of the data directory.
  chown root:sluice /etc/sluice && chmod 0770 /etc/sluice
fi
POSTINST
  chmod 0755 "$root/DEBIAN/postinst"
  dpkg-deb --root-owner-group --build "$root" "dist/sluice_${version}_$arch.deb" >/dev/null
  rm -rf "$root"
fi
rm -rf "dist/${name:?}"
(cd dist && sha256sum -- * > SHA256SUMS && cat SHA256SUMS)
