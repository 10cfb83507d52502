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

# set_version SET: which version of a set of scripts/fetch the cache has, or nothing.
set_version() {
    readlink "$(cache_dir)/sets/$1" || true
}

# derive KIND KEY BUILDER: prints a directory of the cache that holds what the function BUILDER makes
# when called with an empty directory.  It is built once per KEY (a digest over everything it is
# made from), appears complete or not at all, and is built again if it was damaged.
derive() {
    local kind=$1 key=$2 builder=$3 cache directory work
    cache=$(cache_dir)
    directory=$cache/images/$kind-$key
    if ! derived_is_intact "$directory"; then
        make_cache >/dev/null
        mkdir -p "$cache/images"
        exec 8>"$cache/images/.lock-$kind"
        flock 8
        if ! derived_is_intact "$directory"; then # Another process may have built it meanwhile.
            # Only the lock's holder has such a directory: one that exists was left by a killed run.
            rm -rf "$directory" "$cache/images/.$kind".??????
            work=$(mktemp -d "$cache/images/.$kind.XXXXXX")
            if ! (set -e && "$builder" "$work" && cd "$work" && sha256sum -- * >SHA256SUMS) 8>&-; then
                rm -rf "$work"
                die "the $kind image could not be built"
            fi
            chmod 755 "$work"
            mv -T "$work" "$directory"
            # What other versions of the scripts made and nobody used for a day.
            find "$cache/images" -mindepth 1 -maxdepth 1 -type d -name "$kind-????????????????" \
                -mtime +0 -exec rm -rf {} +
        fi
        exec 8>&-
    fi
    touch --no-create "$directory" 2>/dev/null || true
    printf '%s\n' "$directory"
}

derived_is_intact() {
    [ -f "$1/SHA256SUMS" ] && (cd "$1" && sha256sum --quiet --check --status SHA256SUMS 2>/dev/null)
}

# digest FILE-OR-STRING...: a short digest over the contents of files and over other strings.
digest() {
    local part
    for part in "$@"; do
        if [ -f "$part" ]; then sha256sum <"$part"; else printf '%s\n' "$part"; fi
    done | sha256sum | cut -c 1-16
}

# copy_busybox DESTINATION APPLET...: a shell and these commands for an initramfs.
copy_busybox() {
    local destination=$1 applet
    shift
    mkdir -p "$destination/bin"
    cp /bin/busybox "$destination/bin/busybox"
    for applet in sh "$@"; do
        ln -s busybox "$destination/bin/$applet"
    done
}

# extract_vmlinux BZIMAGE FILE: the ELF kernel inside a bzImage, so that a slow emulated processor
# need not decompress it (Documentation/x86/boot.rst: setup_sects, payload_offset, payload_length).
extract_vmlinux() {
    local sectors offset length
    sectors=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
    offset=$(od -An -tu4 -j $((0x248)) -N4 "$1")
    length=$(od -An -tu4 -j $((0x24c)) -N4 "$1")
    tail -c +$(((sectors + 1) * 512 + offset + 1)) "$1" | head -c "$length" |
        xz --decompress --single-stream --stdout >"$2" 2>/dev/null
    [ "$(head -c 4 "$2" | tail -c 3)" = ELF ]
}

# boots_linux BUILD: whether the KVM at hand runs a stock Linux kernel; prints why or why not.
boots_linux() {
    if [ -n "${KEMARI_RIG-}" ]; then
        echo "this is the rig"
    else
        "$1/app/kemarid" --probe 2>&1
    fi
}
