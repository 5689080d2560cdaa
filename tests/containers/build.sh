#!/usr/bin/env bash
# Makes images of Redis and of PostgreSQL with PostGIS from this machine's own binaries, for a Docker
# engine that reaches no image registry. They honour what testcontainers says to the public images.
#
#   tests/containers/build.sh [REDIS_IMAGE] [POSTGRES_IMAGE]
#
# Needs redis-server, PostgreSQL's binaries with PostGIS (Debian's layout), ldd, tar, docker.
set -euo pipefail

redis_image=${1:-cachedorm/redis:local}
postgres_image=${2:-cachedorm/postgis:local}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# The files of a program or library: itself and the libraries it is linked with, at their own paths.
put() {
  local root=$1 file
  shift
  for file in "$@"; do
    # A link is copied with what it stands for; the loader looks for the link's name.
    {
      readlink -e "$file"
      ldd "$file" 2>/dev/null | grep -oE '/[^ ]+' || true # a plugin may need nothing
    } | sort -u | while read -r needed; do
      mkdir -p "$root$(dirname "$needed")"
      cp -Lnp "$needed" "$root$needed"
    done
  done
}

base() {
  mkdir -p "$1"/{bin,etc,run,tmp,var/run}
  chmod 1777 "$1/tmp" "$1/run" "$1/var/run"
  put "$1" /bin/sh /bin/mkdir /bin/cat /bin/chmod
  # Where the distribution merged /bin into /usr/bin, the paths that scripts name are missing.
  for program in sh mkdir cat chmod; do
    [ -e "$1/bin/$program" ] || cp -p "$(readlink -e "/bin/$program")" "$1/bin/$program"
  done
  printf 'root:x:0:0:root:/:/bin/sh\npostgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh\n' \
    >"$1/etc/passwd"
  printf 'root:x:0:\npostgres:x:999:\n' >"$1/etc/group"
}

build_redis() {
  local root=$stage/redis
  base "$root"
  put "$root" "$(command -v redis-server)" "$(command -v redis-cli)"
  mkdir -p "$root/usr/local/bin" "$root/data"
  mv "$root$(readlink -e "$(command -v redis-server)")" "$root/usr/local/bin/redis-server" || true
  tar -C "$root" -c . | docker import \
    --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' --change 'WORKDIR /data' \
    --change 'EXPOSE 6379' --change 'CMD ["redis-server", "--protected-mode", "no"]' \
    - "$redis_image"
}

build_postgres() {
  local root=$stage/postgres home version
  home=$(find /usr/lib/postgresql -maxdepth 1 -mindepth 1 | sort -V | tail -1)
  version=$(basename "$home")
  base "$root"
  mkdir -p "$root$home" "$root/usr/share/postgresql" "$root/usr/lib/locale" "$root/usr/local/bin"
  cp -a "$home/bin" "$root$home/"
  mkdir -p "$root$home/lib"
  # Neither raster nor the just-in-time compiler: together they are more than all the rest.
  for library in "$home"/lib/*.so; do
    case $library in
      *raster* | *llvmjit* | *sfcgal* | *rtpostgis*) ;;
      *) cp -p "$library" "$root$library" && put "$root" "$library" ;;
    esac
  done
  put "$root" "$home"/bin/{postgres,initdb,pg_ctl,psql,pg_isready}
  cp -aL "/usr/share/postgresql/$version" "$root/usr/share/postgresql/"
  cp -a /usr/share/zoneinfo /usr/share/proj "$root/usr/share/"
  cp -a /usr/lib/locale/C.* "$root/usr/lib/locale/" 2>/dev/null || true
  mkdir -p "$root/var/lib/postgresql/data" "$root/var/run/postgresql"
  install -m 755 "$here/postgres-entrypoint.sh" "$root/usr/local/bin/entrypoint"
  # Everything belongs to the one account that runs here; the server refuses root.
  tar -C "$root" --owner=999 --group=999 -c . | docker import \
    --change "ENV PATH=$home/bin:/usr/local/bin:/usr/bin:/bin" \
    --change 'ENV PGDATA=/var/lib/postgresql/data' \
    --change 'USER postgres' --change 'EXPOSE 5432' \
    --change 'ENTRYPOINT ["/bin/sh", "/usr/local/bin/entrypoint"]' --change 'CMD ["postgres"]' \
    - "$postgres_image"
}

build_redis
build_postgres
docker images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep -F -e "$redis_image" -e "$postgres_image"
