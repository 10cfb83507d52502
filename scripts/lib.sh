# shellcheck shell=bash
# What the scripts share.  Source it; it runs nothing.

# die MESSAGE: one sentence on stderr, exit status 1.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# show_help FILE: prints the comment block at the top of FILE, without its marks.
show_help() {
    sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "$1"
}

# The directory for everything downloaded or derived.  KEMARI_CACHE overrides it.
cache_dir() {
    printf '%s\n' "${KEMARI_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kemari}"
}

# make_cache: creates the cache directory or says why it cannot.
make_cache() {
    local cache
    cache=$(cache_dir)
    mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
        die "the cache directory $cache is not writable (set KEMARI_CACHE to one that is)"
    printf '%s\n' "$cache"
}

# need_tools COMMAND...: dies unless every command exists.
need_tools() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is missing; scripts/setup installs it"
    done
}

# copy_modules TREE RELEASE DESTINATION MODULE...: copies kernel modules and all they depend on from
# the package tree TREE, and writes DESTINATION/modules.order, their paths in loading order.
# Modules that are built into this kernel are left out.
copy_modules() {
    local tree=$1 release=$2 destination=$3
    shift 3
    mkdir -p "$destination/modules"
    local module file
    for module in "$@"; do
        # "insmod PATH" per module, dependencies first; "builtin NAME" for the rest.
        modprobe --dirname "$tree" --set-version "$release" --ignore-install \
            --show-depends "$module" 2>/dev/null ||
            die "the kernel $release has no module $module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$destination/modules.paths"
    while read -r file; do
        cp "$file" "$destination/modules/"
        printf '/modules/%s\n' "${file##*/}"
    done <"$destination/modules.paths" >"$destination/modules.order"
    rm "$destination/modules.paths"
}

# pack_initrd DIRECTORY FILE: a cpio archive whose bytes depend only on the directory's contents.
# Not compressed: under emulation the time to decompress is longer than the time to load.
pack_initrd() {
    find "$1" -exec touch --no-dereference --date=@0 {} +
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
        cpio --null --create --format=newc --reproducible --owner=0:0 --quiet) >"$2"
}
