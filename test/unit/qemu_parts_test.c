/* The pure parts of qemu/: what an operator, a monitor, QEMU's state and a peer may say. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/acpi_tables.h"
#include "qemu/command.h"
#include "qemu/firmware.h"
#include "qemu/qmp.h"
#include "qemu/ram_blocks.h"
#include "qemu/stream.h"
#include "qemu/version.h"
#include "test/support/runner.h"

#define MEMORY ((uint64_t)256 << 20)

/* ---- the stream of states ---- */

/* Three devices; the second one's data contain what looks like ends of others. */
static const uint8_t stream[] = {
    'Q', 'E', 'V', 'M', 0,  0,    0,   3,                                        /* header */
    4,   0,   0,   0,   9,  3,    'c', 'p',  'u', 1, 2, 3,    0x7e, 0, 0, 0, 9,  /* 9 */
    4,   0,   0,   0,   10, 0x7e, 0,   0,    0,   9, 4, 0x7e, 0x7e, 0, 0, 0, 10, /* 10 */
    4,   0,   0,   0,   11, 5,    5,   0x7e, 0,   0, 0, 11,   0,                 /* 11, end */
};

static void a_state_is_cut_at_its_devices_and_put_together_again(void)
{
    static const uint32_t sizes[] = {8, 17, 17, 12, 1};
    struct error err = {0};
    struct section_set *set = section_set_create();
    uint8_t out[sizeof(stream)];
    CU_ASSERT_EQUAL_FATAL(stream_check(stream, sizeof(stream), false, &err), 0);
    CU_ASSERT_EQUAL_FATAL(stream_to_sections(stream, sizeof(stream), set, &err), 0);
    CU_ASSERT_EQUAL_FATAL(section_set_count(set), ARRAY_SIZE(sizes));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        CU_ASSERT_EQUAL(section_set_at(set, i)->size, sizes[i]);
    CU_ASSERT_EQUAL_FATAL(stream_from_sections(set, NULL, &err), (int)sizeof(stream));
    CU_ASSERT_EQUAL(stream_from_sections(set, out, &err), (int)sizeof(stream));
    CU_ASSERT_EQUAL(memcmp(out, stream, sizeof(stream)), 0);
    section_set_destroy(&set);
}

static void any_bytes_come_back_as_they_were(void)
{
    struct error err = {0};
    struct section_set *set = section_set_create();
    const size_t size = (5u << 20) + 17;
    uint8_t *bytes = malloc(size), *out = malloc(size);
    CU_ASSERT_FATAL(set && bytes && out);
    uint64_t state = 1;
    for (unsigned round = 0; round < 6; round++) {
        /* Of few values, so that beginnings and ends are everywhere. */
        for (size_t i = 0; i < size; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (const uint8_t[]){0, 0, 4, 0x7e}[state >> 62];
        }
        section_set_reset(set);
        const size_t used = round < 3 ? size : 1000 + round;
        CU_ASSERT_EQUAL_FATAL(stream_to_sections(bytes, used, set, &err), 0);
        CU_ASSERT_EQUAL_FATAL(stream_from_sections(set, out, &err), (int)used);
        CU_ASSERT_EQUAL(memcmp(out, bytes, used), 0);
    }
    free(bytes);
    free(out);
    section_set_destroy(&set);
}

static void a_state_that_is_cut_short_is_refused(void)
{
    struct error err = {0};
    for (size_t size = 0; size < sizeof(stream); size++) {
        uint8_t part[sizeof(stream)];
        memcpy(part, stream, size);
        /* A part that ends with a zero by chance is for QEMU to refuse. */
        if (size > 8 && part[size - 1] == 0)
            continue;
        CU_ASSERT_EQUAL(stream_check(part, size, false, &err), -EBADMSG);
    }
}

static void sections_that_are_not_in_order_are_refused(void)
{
    struct error err = {0};
    struct section_set *set = section_set_create();
    CU_ASSERT_EQUAL(stream_from_sections(set, NULL, &err), -EBADMSG);
    CU_ASSERT_PTR_NOT_NULL(section_set_add(set, STREAM_SECTION, 1, STREAM_VERSION, 4));
    CU_ASSERT_EQUAL(stream_from_sections(set, NULL, &err), -EBADMSG);
    section_set_reset(set);
    CU_ASSERT_PTR_NOT_NULL(section_set_add(set, STREAM_SECTION, 0, STREAM_VERSION + 1, 4));
    CU_ASSERT_EQUAL(stream_from_sections(set, NULL, &err), -EBADMSG);
    section_set_reset(set);
    for (uint32_t i = 0; i <= STREAM_MAX / SECTION_SIZE_MAX; i++)
        CU_ASSERT_PTR_NOT_NULL(
            section_set_add(set, STREAM_SECTION, i, STREAM_VERSION, SECTION_SIZE_MAX));
    CU_ASSERT_EQUAL(stream_from_sections(set, NULL, &err), -EBADMSG);
    section_set_destroy(&set);
}

/* ---- ACPI tables ---- */

/* Two devices; the first one's data contain what looks like the second one's name. */
static const uint8_t with_tables[] = {
    'Q', 'E', 'V', 'M', 0,   0,   0,    3, 4, 0, 0, 0, 1, 2, 'p', 'm',  0,  0,   0,   0,   0,
    0,   0,   1,   4,   10,  'a', 0x7e, 0, 0, 0, 1, 4, 0, 0, 0,   2,    10, 'a', 'c', 'p', 'i',
    '_', 'b', 'u', 'i', 'l', 'd', 0,    0, 0, 0, 0, 0, 0, 1, 1,   0x7e, 0,  0,   0,   2,   0,
};
#define TABLES_MADE (sizeof(with_tables) - 7)

static void tables_are_to_be_made_again(void)
{
    uint8_t bytes[sizeof(with_tables)], expected[sizeof(with_tables)];
    memcpy(bytes, with_tables, sizeof(bytes));
    memcpy(expected, with_tables, sizeof(expected));
    CU_ASSERT_EQUAL(expected[TABLES_MADE], 1);
    expected[TABLES_MADE] = 0;
    acpi_tables_make_again(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL(memcmp(bytes, expected, sizeof(bytes)), 0);
}

/* Another version, more in it, less of it, none. */
static void tables_that_are_not_known_stay_as_they_are(void)
{
    uint8_t bytes[sizeof(with_tables) + 1], before[sizeof(with_tables) + 1];
    for (size_t size = STREAM_HEADER_SIZE; size < sizeof(with_tables); size++) {
        /* At the end of an allocation, for the sanitizers. */
        uint8_t *part = malloc(size);
        CU_ASSERT_PTR_NOT_NULL_FATAL(part);
        memcpy(part, with_tables, size);
        acpi_tables_make_again(part, size);
        /* Only a part that is whole is one; the end of the stream behind it doesn't matter. */
        CU_ASSERT(size == sizeof(with_tables) - 1 || memcmp(part, with_tables, size) == 0);
        free(part);
    }
    memcpy(bytes, with_tables, sizeof(with_tables));
    bytes[TABLES_MADE - 1] = 2;
    memcpy(before, bytes, sizeof(with_tables));
    acpi_tables_make_again(bytes, sizeof(with_tables));
    CU_ASSERT_EQUAL(memcmp(bytes, before, sizeof(with_tables)), 0);
    memcpy(bytes, with_tables, TABLES_MADE);
    memcpy(bytes + TABLES_MADE + 1, with_tables + TABLES_MADE, 7);
    bytes[TABLES_MADE] = 1;
    memcpy(before, bytes, sizeof(bytes));
    acpi_tables_make_again(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL(memcmp(bytes, before, sizeof(bytes)), 0);
    memcpy(bytes, stream, sizeof(stream));
    acpi_tables_make_again(bytes, sizeof(stream));
    CU_ASSERT_EQUAL(memcmp(bytes, stream, sizeof(stream)), 0);
}

/* ---- the firmware ---- */

static void a_firmware_is_a_part_as_QEMU_writes_it(void)
{
    static const uint8_t head[] = {
        1, 0,   0,   0,   1,   3,   'r',  'a', 'm', /* section 1, "ram" */
        0, 0,   0,   0,   0,   0,   0,    4,        /* instance 0, version 4 */
        0, 0,   0,   0,   0,   0,   0x20, 4,        /* 8192 bytes in all */
        7, 'p', 'c', '.', 'b', 'i', 'o',  's', 0,   0,   0,   0,   0,   0,   0x20, 0,
        0, 0,   0,   0,   0,   0,   0,    8,   7,   'p', 'c', '.', 'b', 'i', 'o',  's', /* page 0 */
    };
    static const uint8_t second[] = {0, 0,   0,   0,   0,   0,   0x10, 8,
                                     7, 'p', 'c', '.', 'b', 'i', 'o',  's'};
    static const uint8_t tail[] = {0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 1};
    uint8_t bytes[2 * PAGE_SIZE];
    const size_t size = firmware_part_size(sizeof(bytes));
    CU_ASSERT_EQUAL_FATAL(size, sizeof(head) + sizeof(second) + sizeof(tail) + sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i / 7);
    uint8_t *out = malloc(size), *at = out;
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    firmware_part_make(bytes, sizeof(bytes), out);
    CU_ASSERT_EQUAL(memcmp(at, head, sizeof(head)), 0);
    CU_ASSERT_EQUAL(memcmp(at += sizeof(head), bytes, PAGE_SIZE), 0);
    CU_ASSERT_EQUAL(memcmp(at += PAGE_SIZE, second, sizeof(second)), 0);
    CU_ASSERT_EQUAL(memcmp(at += sizeof(second), bytes + PAGE_SIZE, PAGE_SIZE), 0);
    CU_ASSERT_EQUAL(memcmp(at += PAGE_SIZE, tail, sizeof(tail)), 0);
    free(out);
}

static void whether_a_guest_can_write_its_firmware_is_read(void)
{
    static const char roms[] = "fw=genroms/kvmvapic.bin size=0x002400 name=\"kvmvapic.bin\"\r\n"
                               "addr=00000000fffc0000 size=0x040000 mem=rom name=\"bios\"\r\n"
                               "addr=00000000ffff0000 size=0x010000 mem=ram name=\"other\"\r\n"
                               "/rom@etc/acpi/tables size=0x200000 name=\"etc/acpi/tables\"";
    struct error err = {0};
    bool writable = true;
    CU_ASSERT_EQUAL(firmware_is_writable(roms, 256u << 10, &writable, &err), 0);
    CU_ASSERT_FALSE(writable);
    CU_ASSERT_EQUAL(firmware_is_writable(roms, 64u << 10, &writable, &err), 0);
    CU_ASSERT_TRUE(writable);
    static const char *const others[] = {"", "\n", "addr=", "addr=fffc0000 size=1\n", roms};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        CU_ASSERT_EQUAL(firmware_is_writable(others[i], 128u << 10, &writable, &err), -EBADMSG);
}

/* ---- RAM blocks ---- */

#define LIST_HEAD                                                                                  \
    "              Block Name    PSize              Offset               Used              "       \
    "Total\n"
#define LIST_RAM                                                                                   \
    "              kemari-ram    4 KiB  0x0000000000000000 0x0000000010000000 "                    \
    "0x0000000010000000\n"
#define LIST_ROMS                                                                                  \
    "                 pc.bios    4 KiB  0x0000000010000000 0x0000000000040000 "                    \
    "0x0000000000040000\n"                                                                         \
    " 0000:00:01.0/virtio-net-pci.rom    4 KiB  0x0000000010080000 0x0000000000040000 "            \
    "0x0000000000040000\r\n"                                                                       \
    "    /rom@etc/acpi/tables    4 KiB  0x00000000100c0000 0x0000000000020000 "                    \
    "0x0000000000200000\n"

#define LIST_VGA "0000:00:01.0/vga.vram 4 KiB 0x0 0x1000000 0x1000000\n"

static void what_memory_a_machine_has_is_read(void)
{
    static const struct {
        const char *list;
        int rc;
        const char *text;
        bool own;
        unsigned count;
    } cases[] = {
        {LIST_HEAD LIST_RAM LIST_ROMS, 0, NULL, false, 3},
        {LIST_RAM LIST_ROMS, 0, NULL, false, 3},
        {LIST_HEAD LIST_RAM LIST_ROMS LIST_VGA, 0, NULL, true, 4},
        {LIST_HEAD LIST_VGA LIST_RAM LIST_ROMS, 0, NULL, true, 4},
        {LIST_HEAD LIST_ROMS, -ENOTSUP, "does not use the memory", false, 0},
        {"", -ENOTSUP, "does not use the memory", false, 0},
        {LIST_HEAD LIST_RAM "vga.vram 4 KiB 0x0 0x1800001 0x1\n", -ENOTSUP, "RAM block vga.vram",
         false, 0},
        {LIST_RAM "a 4 KiB 0x0 0x1000 0x1\nb 4 KiB 0x0 0xffffffffffffffff 0x1\n"
                  "c 4 KiB 0x0 0xffffffffffffffff 0x1\n",
         -ENOTSUP, "RAM block b ", false, 0},
        {LIST_HEAD LIST_RAM LIST_VGA LIST_VGA, -ENOTSUP, "33554432 bytes", false, 0},
        {LIST_HEAD "kemari-ram 4 KiB 0x0 0x8000000 0x8000000\n", -ENOTSUP, "134217728 bytes", false,
         0},
        {LIST_RAM "pc.bios 4 KiB 0x0 0x1001000 0x1001000\n", -EBADMSG, "firmware of 16781312",
         false, 0},
        {LIST_RAM "pc.bios 4 KiB 0x0 0x1001 0x1001\n", -EBADMSG, "firmware of 4097 bytes", false,
         0},
        {LIST_HEAD LIST_RAM "what is this\n", -EBADMSG, "can't read", false, 0},
        {LIST_HEAD LIST_HEAD LIST_RAM, -EBADMSG, "can't read", false, 0},
    };
    struct ram_blocks blocks;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        CU_ASSERT_EQUAL(ram_blocks_read(cases[i].list, MEMORY, &blocks, &err), cases[i].rc);
        if (cases[i].text) {
            CU_ASSERT_PTR_NOT_NULL(strstr(err.text, cases[i].text));
        } else {
            CU_ASSERT_EQUAL(blocks.firmware, 256u << 10);
            CU_ASSERT_EQUAL(blocks.own, cases[i].own);
            CU_ASSERT_EQUAL(blocks.count, cases[i].count);
        }
    }
    CU_ASSERT_EQUAL(ram_blocks_read(LIST_RAM, MEMORY, &blocks, NULL), 0);
    CU_ASSERT_EQUAL(blocks.firmware, 0);
    CU_ASSERT_EQUAL(blocks.count, 0);
}

static void a_list_of_memory_has_bounds(void)
{
    static char line[4096], lines[(RAM_BLOCKS_MAX + 1) * sizeof(LIST_VGA) + sizeof(LIST_RAM)];
    struct ram_blocks blocks;
    memset(line, 'x', sizeof(line) - 1);
    CU_ASSERT_EQUAL(ram_blocks_read(line, MEMORY, &blocks, NULL), -EBADMSG);
    static const char small[] = "x.rom 4 KiB 0x0 0x1000 0x1000\n";
    strcpy(lines, LIST_RAM);
    for (unsigned i = 0; i <= RAM_BLOCKS_MAX; i++) {
        CU_ASSERT_EQUAL(ram_blocks_read(lines, MEMORY, &blocks, NULL), 0);
        CU_ASSERT_EQUAL(blocks.count, i);
        strcat(lines, small);
    }
    CU_ASSERT_EQUAL(ram_blocks_read(lines, MEMORY, &blocks, NULL), -ENOTSUP);
    snprintf(lines, sizeof(lines), LIST_RAM "%0*d 4 KiB 0x0 0x1000 0x1000\n", RAM_BLOCK_NAME_MAX,
             1);
    CU_ASSERT_EQUAL(ram_blocks_read(lines, MEMORY, &blocks, NULL), -ENOTSUP);
}

/* ---- the program and its command ---- */

static void a_version_is_what_QEMU_says_it_is(void)
{
    static const struct {
        const char *text;
        int rc;
        bool old;
    } cases[] = {
        {"QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright\n", 0, false},
        {"QEMU emulator version 10.0.0\n", 0, false},
        {"QEMU emulator version 7.1.99", 0, true},
        {"QEMU emulator version 6.2.0", 0, true},
        {"QEMU emulator version 7.2", -EBADMSG, false},
        {"QEMU emulator version x", -EBADMSG, false},
        {"hello\n", -EBADMSG, false},
        {"", -EBADMSG, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct qemu_version version;
        CU_ASSERT_EQUAL(qemu_version_decode(cases[i].text, &version, NULL), cases[i].rc);
        if (cases[i].rc == 0)
            CU_ASSERT_EQUAL(qemu_version_is_old(&version), cases[i].old);
    }
}

static void kvm_is_needed_when_nothing_else_is_allowed(void)
{
    static const struct {
        const char *words[7];
        bool needed;
    } cases[] = {
        {{"qemu", NULL}, false},
        {{"qemu", "-enable-kvm", NULL}, true},
        {{"qemu", "--accel", "kvm", NULL}, true},
        {{"qemu", "-accel", "kvm,kernel-irqchip=split", NULL}, true},
        {{"qemu", "-accel", "accel=kvm", NULL}, true},
        {{"qemu", "-accel", "kvm", "-accel", "tcg", NULL}, false},
        {{"qemu", "-machine", "q35,accel=kvm,smm=off", NULL}, true},
        {{"qemu", "-M", "q35,accel=kvm:tcg", NULL}, false},
        {{"qemu", "-cpu", "kvm64", "-accel", "tcg", NULL}, false},
        {{"/opt/kvm/qemu", "-accel", NULL}, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        CU_ASSERT_EQUAL(qemu_command_needs_kvm(cases[i].words), cases[i].needed);
}

static void words_that_are_not_known_to_be_safe_are_refused(void)
{
    static const struct {
        const char *words[6];
        int rc;
    } cases[] = {
        {{"qemu", NULL}, 0},
        {{"qemu", "-machine", "q35", "-cpu", "max", NULL}, 0},
        {{"qemu", "--machine", "q35", "-enable-kvm", NULL}, 0},
        {{"qemu", "-object", "rng-builtin,id=x", NULL}, 0},
        {{"qemu", "-device", "virtio-rng-pci", NULL}, 0},
        {{"qemu", "-device", "VGA,vgamem_mb=8", NULL}, 0},
        {{"qemu", "-device", "bochs-display", NULL}, 0},
        {{"qemu", "-device", "virtio-gpu-pci", NULL}, -ENOTSUP},
        {{"qemu", "-device", "qxl-vga", NULL}, -ENOTSUP},
        {{NULL}, -EINVAL},
        {{"qemu", "image.raw", NULL}, -EINVAL},
        {{"qemu", "-machine", NULL}, -EINVAL},
        {{"qemu", "-m", "1G", NULL}, -EINVAL},
        {{"qemu", "-netdev", "user,id=x", NULL}, -EINVAL},
        {{"qemu", "--monitor", "stdio", NULL}, -EINVAL},
        {{"qemu", "-daemonize", NULL}, -EINVAL},
        {{"qemu", "-incoming", "defer", NULL}, -EINVAL},
        {{"qemu", "-device", "vfio-pci,host=1", NULL}, -ENOTSUP},
        {{"qemu", "-device", "driver=vfio-pci", NULL}, -ENOTSUP},
        {{"qemu", "-object", "memory-backend-ram,id=x,size=1M", NULL}, -ENOTSUP},
        {{"qemu", "-machine", "q35,memory-backend=x", NULL}, -ENOTSUP},
        {{"qemu", "-M", "q35,pflash0=x", NULL}, -ENOTSUP},
        {{"qemu", "-", "x", NULL}, -EINVAL},
        {{"qemu", "-device", "virtio-blk-pci,drive=x", NULL}, -EINVAL},
        {{"qemu", "-device", "e1000,netdev=x", NULL}, -EINVAL},
        {{"qemu", "-device", "x,vhost=on", NULL}, -ENOTSUP},
        {{"qemu", "-device", "x,vhosts=on", NULL}, 0},
        {{"qemu", "-device", "id=x,driver=vfio-pci", NULL}, -EINVAL},
        {{"qemu", "-device", "{\"driver\":\"vfio-pci\"}", NULL}, -EINVAL},
        {{"qemu", "-pflash", "x", NULL}, -ENOTSUP},
        {{"qemu", "-vga", "std", NULL}, -ENOTSUP},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct qemu_command command = {.words = cases[i].words};
        struct error err = {0};
        CU_ASSERT_EQUAL(qemu_command_check(&command, &err), cases[i].rc);
        CU_ASSERT_EQUAL(err.text[0] != '\0', cases[i].rc < 0);
    }
}

static bool has_pair(char **arguments, const char *option, const char *value)
{
    for (size_t i = 0; arguments[i] && arguments[i + 1]; i++)
        if (strcmp(arguments[i], option) == 0 && strstr(arguments[i + 1], value))
            return true;
    return false;
}

static void check_disks(char **a)
{
    char text[256];
    snprintf(text, sizeof(text),
             "if=none,id=bell,driver=nbd,server.type=fd,server.str=%d,export=bell", QEMU_FD_BELL);
    CU_ASSERT_TRUE(has_pair(a, "-drive", text));
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof(text),
                 "driver=nbd,node-name=disk%d,server.type=fd,server.str=%d,export=disk%d,"
                 "read-only=%s,discard=unmap",
                 i, QEMU_FD_DISK + i, i, i ? "on" : "off");
        CU_ASSERT_TRUE(has_pair(a, "-blockdev", text));
    }
    CU_ASSERT_TRUE(has_pair(a, "-device",
                            "virtio-blk-pci,queue-size=32,drive=disk1,id=drive1,"
                            "serial=kemari-disk1,rerror=report,werror=report"));
}

static void a_command_has_the_operators_words_and_ours(void)
{
    static const char *const words[] = {"qemu", "-machine", "q35", NULL};
    const struct qemu_command command = {.words = words,
                                         .memory = MEMORY,
                                         .vcpus = 3,
                                         .kernel = "/k",
                                         .command_line = "a b=c,d",
                                         .net_device = "e1000",
                                         .net_count = 2,
                                         .macs = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 0xff}},
                                         .disk_device = "virtio-blk-pci,queue-size=32",
                                         .disk_count = 2,
                                         .disks_read_only = {false, true}};
    for (int incoming = 0; incoming < 2; incoming++) {
        char **a = qemu_command_arguments(&command, incoming);
        CU_ASSERT_PTR_NOT_NULL_FATAL(a);
        CU_ASSERT_STRING_EQUAL(a[0], "qemu");
        CU_ASSERT_TRUE(has_pair(a, "-machine", "q35"));
        CU_ASSERT_TRUE(has_pair(a, "-machine", "memory-backend=" QEMU_MEMORY));
        CU_ASSERT_TRUE(has_pair(a, "-m", "262144K"));
        CU_ASSERT_TRUE(has_pair(a, "-smp", "3"));
        CU_ASSERT_TRUE(has_pair(a, "-no-shutdown", "-only-migratable"));
        CU_ASSERT_TRUE(has_pair(a, "-kernel", "/k"));
        CU_ASSERT_TRUE(has_pair(a, "-append", "a b=c,d"));
        CU_ASSERT_FALSE(has_pair(a, "-initrd", ""));
        CU_ASSERT_TRUE(has_pair(a, "-device", "e1000,netdev=net1,id=card1,mac=02:00:00:00:00:ff"));
        check_disks(a);
        CU_ASSERT_EQUAL(has_pair(a, "-incoming", "defer"), incoming);
        qemu_command_free(&a);
        CU_ASSERT_PTR_NULL(a);
    }
}

/* The same devices, behind which there is nothing. */
static void a_trial_touches_no_disk(void)
{
    static const char *const words[] = {"qemu", NULL};
    const struct qemu_command command = {.words = words,
                                         .memory = MEMORY,
                                         .vcpus = 1,
                                         .disk_device = "ide-hd",
                                         .disk_count = 2,
                                         .disks_read_only = {false, true},
                                         .trial = true};
    char **a = qemu_command_arguments(&command, false);
    CU_ASSERT_PTR_NOT_NULL_FATAL(a);
    CU_ASSERT_TRUE(has_pair(a, "-blockdev", "driver=null-co,node-name=disk0,read-zeroes=on,"));
    CU_ASSERT_TRUE(has_pair(a, "-blockdev", "node-name=disk1,read-zeroes=on,read-only=on"));
    CU_ASSERT_TRUE(has_pair(a, "-device", "ide-hd,drive=disk1,id=drive1,"));
    CU_ASSERT_FALSE(has_pair(a, "-blockdev", "nbd"));
    CU_ASSERT_FALSE(has_pair(a, "-drive", ""));
    qemu_command_free(&a);
}

/* ---- QMP ---- */

static void lines_are_told_apart(void)
{
    static const struct {
        const char *line;
        int rc;
        enum qmp_kind kind;
        const char *text;
    } cases[] = {
        {"{\"QMP\": {\"version\": {}}}", 0, QMP_GREETING, NULL},
        {"{\"return\": {}}", 0, QMP_RETURN, NULL},
        {"{\"return\": [1, 2]}\r\n", 0, QMP_RETURN, NULL},
        {"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}", 0, QMP_ERROR, "no"},
        {"{\"event\": \"STOP\", \"timestamp\": {}}", 0, QMP_EVENT, "STOP"},
        {"{\"event\": 7}", -EBADMSG, 0, NULL},
        {"{\"error\": \"no\"}", -EBADMSG, 0, NULL},
        {"{\"error\": {}}", -EBADMSG, 0, NULL},
        {"{\"return\": {}, \"return\": {}}", -EBADMSG, 0, NULL},
        {"{}", -EBADMSG, 0, NULL},
        {"[]", -EBADMSG, 0, NULL},
        {"7", -EBADMSG, 0, NULL},
        {"", -EBADMSG, 0, NULL},
        {"{\"return\": {", -EBADMSG, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct qmp_message message;
        struct error err = {0};
        CU_ASSERT_EQUAL(qmp_decode(cases[i].line, strlen(cases[i].line), &message, &err),
                        cases[i].rc);
        if (cases[i].rc == 0) {
            CU_ASSERT_EQUAL(message.kind, cases[i].kind);
            if (cases[i].text)
                CU_ASSERT_STRING_EQUAL(message.text, cases[i].text);
        }
        CU_ASSERT_EQUAL(message.json != NULL, cases[i].rc == 0);
        json_decref(message.json);
    }
}

static const struct test_case cases[] = {
    {"a state is cut at its devices and put together again",
     a_state_is_cut_at_its_devices_and_put_together_again},
    {"any bytes come back as they were", any_bytes_come_back_as_they_were},
    {"a state that is cut short is refused", a_state_that_is_cut_short_is_refused},
    {"sections that are not in order are refused", sections_that_are_not_in_order_are_refused},
    {"tables are to be made again", tables_are_to_be_made_again},
    {"tables that are not known stay as they are", tables_that_are_not_known_stay_as_they_are},
    {"a firmware is a part as QEMU writes it", a_firmware_is_a_part_as_QEMU_writes_it},
    {"whether a guest can write its firmware is read",
     whether_a_guest_can_write_its_firmware_is_read},
    {"what memory a machine has is read", what_memory_a_machine_has_is_read},
    {"a list of memory has bounds", a_list_of_memory_has_bounds},
    {"a version is what QEMU says it is", a_version_is_what_QEMU_says_it_is},
    {"KVM is needed when nothing else is allowed", kvm_is_needed_when_nothing_else_is_allowed},
    {"words that are not known to be safe are refused",
     words_that_are_not_known_to_be_safe_are_refused},
    {"a command has the operator's words and ours", a_command_has_the_operators_words_and_ours},
    {"a trial touches no disk", a_trial_touches_no_disk},
    {"lines are told apart", lines_are_told_apart},
};

TEST_MAIN("qemu-parts", cases)
