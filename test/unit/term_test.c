/* The durable term record: never backwards, never guessed, never shared. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "heartbeat/term.h"
#include "test/support/runner.h"

/* A state directory of its own for every test; leave() removes it. */
static char directory[64];

static void enter(void)
{
    strcpy(directory, "/tmp/kemari-term-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
}

static void path_of(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", directory, name);
}

static void leave(void)
{
    static const char *const names[] = {"redis.term", "redis.lock", "other.term", "other.lock",
                                        "redis.term.new"};
    char path[128];
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        path_of(names[i], path);
        unlink(path);
    }
    CU_ASSERT_EQUAL(rmdir(directory), 0);
}

static struct term_store *open_store(void)
{
    struct term_store *store;
    CU_ASSERT_EQUAL_FATAL(term_store_open(directory, "redis", &store, NULL), 0);
    return store;
}

#define EXPECT_RECORD(store, t, o)                                                                 \
    do {                                                                                           \
        CU_ASSERT_EQUAL(term_store_current(store).term, t);                                        \
        CU_ASSERT_EQUAL(term_store_current(store).ownership, TERM_##o);                            \
    } while (0)

static void a_host_that_never_took_part_is_a_standby_of_term_0(void)
{
    enter();
    struct term_store *store = open_store();
    EXPECT_RECORD(store, 0, STANDBY);
    term_store_close(&store);
    CU_ASSERT_PTR_NULL(store);
    leave();
}

static void what_was_advanced_is_there_after_a_restart(void)
{
    enter();
    struct term_store *store = open_store();
    CU_ASSERT_EQUAL(term_store_advance(store, 7, TERM_OWNER, NULL), 0);
    term_store_close(&store);
    store = open_store();
    EXPECT_RECORD(store, 7, OWNER);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).vm, "redis");
    CU_ASSERT_EQUAL(term_store_advance(store, 7, TERM_LOST, NULL), 0);
    term_store_close(&store);
    store = open_store();
    EXPECT_RECORD(store, 7, LOST);
    term_store_close(&store);
    leave();
}

static void only_the_steps_of_the_picture_are_allowed(void)
{
    static const bool within[4][4] = {
        /* from            to: -      standby owner  lost */
        [TERM_STANDBY] = {false, true, false, true},
        [TERM_OWNER] = {false, false, true, true},
        [TERM_LOST] = {false, true, false, true},
    };
    for (int from = TERM_STANDBY; from <= TERM_LOST; from++) {
        for (int to = TERM_STANDBY; to <= TERM_LOST; to++) {
            for (term_t term = 4; term <= 6; term++) {
                enter();
                struct term_store *store = open_store();
                struct error err = {0};
                CU_ASSERT_EQUAL(term_store_advance(store, 5, (enum term_ownership)from, NULL), 0);
                const bool allowed = term == 5 ? within[from][to] : term > 5;
                CU_ASSERT_EQUAL(term_store_advance(store, term, (enum term_ownership)to, &err),
                                allowed ? 0 : -ESTALE);
                CU_ASSERT_EQUAL(term_store_current(store).term, allowed ? term : 5);
                CU_ASSERT_EQUAL(allowed, err.text[0] == '\0');
                term_store_close(&store);
                leave();
            }
        }
    }
}

static void term_0_is_never_owned_nor_lost(void)
{
    enter();
    struct term_store *store = open_store();
    CU_ASSERT_EQUAL(term_store_advance(store, 0, TERM_OWNER, NULL), -ESTALE);
    CU_ASSERT_EQUAL(term_store_advance(store, 0, TERM_LOST, NULL), -ESTALE);
    term_store_close(&store);
    leave();
}

static size_t sample_record(char bytes[TERM_RECORD_MAX])
{
    const struct term_record record = {.term = 7, .ownership = TERM_OWNER, .vm = "redis"};
    return term_record_encode(&record, bytes);
}

static void the_record_is_text_an_operator_can_read(void)
{
    char bytes[TERM_RECORD_MAX];
    const size_t size = sample_record(bytes);
    /* printf 'kemari-term 1\nvm redis\nterm 7\nownership owner\n' | sha256sum */
    static const char golden[] =
        "kemari-term 1\nvm redis\nterm 7\nownership owner\nsha256 "
        "02aa4acd22c798568c7c843e785f68c3efcc9ccc190e742a754091f9a795c159\n";
    CU_ASSERT_EQUAL(size, strlen(golden));
    CU_ASSERT_EQUAL(memcmp(bytes, golden, size), 0);
}

static void the_record_names_the_standby_where_there_are_several(void)
{
    struct term_record record = {
        .term = 7, .ownership = TERM_OWNER, .vm = "redis", .standby = "tls://192.0.2.2:7000"};
    struct term_record out;
    char bytes[TERM_RECORD_MAX];
    const size_t size = term_record_encode(&record, bytes);
    static const char golden[] =
        "kemari-term 1\nvm redis\nterm 7\nownership owner\nstandby tls://192.0.2.2:7000\nsha256 "
        "d9e27ffd13e52ce4e38967972de808d4c456bdaaba45a0a32180798e6162703e\n";
    CU_ASSERT_EQUAL(size, strlen(golden));
    CU_ASSERT_EQUAL(memcmp(bytes, golden, size), 0);
    CU_ASSERT_EQUAL(term_record_decode(bytes, size, &out, NULL), 0);
    CU_ASSERT_STRING_EQUAL(out.standby, record.standby);
    record.standby[3] = '\x01';
    CU_ASSERT_EQUAL(term_record_decode(bytes, term_record_encode(&record, bytes), &out, NULL),
                    -EBADMSG);
}

static void an_owner_s_standby_is_written_down(void)
{
    enter();
    struct term_store *store = open_store();
    struct error err = {0};
    CU_ASSERT_EQUAL(term_store_advance(store, 1, TERM_OWNER, NULL), 0);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "");
    term_store_name_standbys(store);
    CU_ASSERT_EQUAL(term_store_advance(store, 1, TERM_OWNER, NULL), 0);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "");
    CU_ASSERT_EQUAL(term_store_advance(store, 2, TERM_OWNER, NULL), 0);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, TERM_STANDBY_NONE);
    CU_ASSERT_EQUAL(term_store_bind(store, "tls://b:1", NULL), 0);
    /* To own the same term again, after a restart, changes nothing. */
    term_store_close(&store);
    store = open_store();
    term_store_name_standbys(store);
    CU_ASSERT_EQUAL(term_store_advance(store, 2, TERM_OWNER, NULL), 0);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "tls://b:1");
    CU_ASSERT_EQUAL(term_store_bind(store, "tls://c:1", NULL), 0);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "tls://c:1");
    CU_ASSERT_EQUAL(term_store_bind(store, "b c", &err), -EINVAL);
    CU_ASSERT_EQUAL(term_store_own(store, 3, "tls://d:1", NULL), 0);
    EXPECT_RECORD(store, 3, OWNER);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "tls://d:1");
    /* Only an owner has one. */
    CU_ASSERT_EQUAL(term_store_advance(store, 3, TERM_LOST, NULL), 0);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "");
    CU_ASSERT_EQUAL(term_store_bind(store, "tls://b:1", NULL), 0);
    EXPECT_RECORD(store, 3, LOST);
    CU_ASSERT_STRING_EQUAL(term_store_current(store).standby, "");
    CU_ASSERT_EQUAL(term_store_own(store, 3, "tls://b:1", NULL), -ESTALE);
    term_store_close(&store);
    leave();
}

static void the_longest_record_fits(void)
{
    struct term_record record = {.term = UINT64_MAX, .ownership = TERM_STANDBY};
    struct term_record out;
    memset(record.vm, 'v', TERM_VM_NAME_MAX - 1);
    memset(record.standby, 's', TERM_STANDBY_MAX - 1);
    char bytes[TERM_RECORD_MAX];
    const size_t size = term_record_encode(&record, bytes);
    CU_ASSERT_EQUAL(term_record_decode(bytes, size, &out, NULL), 0);
    CU_ASSERT_EQUAL(out.term, UINT64_MAX);
}

static void a_record_cut_at_any_byte_or_with_any_bit_flipped_is_damaged(void)
{
    char good[TERM_RECORD_MAX], bytes[TERM_RECORD_MAX];
    struct term_record out;
    struct error err = {0};
    const size_t size = sample_record(good);
    CU_ASSERT_EQUAL(term_record_decode(good, size, &out, NULL), 0);
    for (size_t cut = 0; cut < size; cut++) {
        CU_ASSERT_EQUAL(term_record_decode(good, cut, &out, &err), -EBADMSG);
        CU_ASSERT(err.text[0] != '\0');
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        memcpy(bytes, good, size);
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << (bit % 8)));
        CU_ASSERT_EQUAL(term_record_decode(bytes, size, &out, NULL), -EBADMSG);
    }
    good[size] = 'x';
    CU_ASSERT_EQUAL(term_record_decode(good, size + 1, &out, NULL), -EBADMSG);
}

static void a_file_cut_at_any_byte_is_refused_and_left_as_it_is(void)
{
    char bytes[TERM_RECORD_MAX], path[128];
    struct term_store *store;
    const size_t size = sample_record(bytes);
    enter();
    path_of("redis.term", path);
    for (size_t cut = 0; cut < size; cut++) {
        struct error err = {0};
        struct stat info;
        CU_ASSERT_EQUAL(fd_replace_file(path, bytes, cut), 0);
        CU_ASSERT_EQUAL(term_store_open(directory, "redis", &store, &err), -EBADMSG);
        CU_ASSERT_PTR_NULL(store);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, path));
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "damaged"));
        CU_ASSERT_EQUAL(stat(path, &info), 0);
        CU_ASSERT_EQUAL((size_t)info.st_size, cut);
    }
    leave();
}

static void a_huge_file_is_refused(void)
{
    char path[128];
    char junk[4096];
    struct term_store *store;
    memset(junk, 'a', sizeof(junk));
    enter();
    path_of("redis.term", path);
    CU_ASSERT_EQUAL(fd_replace_file(path, junk, sizeof(junk)), 0);
    CU_ASSERT_EQUAL(term_store_open(directory, "redis", &store, NULL), -EBADMSG);
    leave();
}

static void the_record_of_another_vm_is_refused(void)
{
    char path[128], from[128];
    struct term_store *store;
    struct error err = {0};
    enter();
    CU_ASSERT_EQUAL_FATAL(term_store_open(directory, "other", &store, NULL), 0);
    CU_ASSERT_EQUAL(term_store_advance(store, 3, TERM_OWNER, NULL), 0);
    term_store_close(&store);
    path_of("other.term", from);
    path_of("redis.term", path);
    CU_ASSERT_EQUAL(rename(from, path), 0);
    CU_ASSERT_EQUAL(term_store_open(directory, "redis", &store, &err), -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "belongs to VM other"));
    leave();
}

static void two_daemons_of_one_vm_cannot_share_a_record(void)
{
    struct term_store *second;
    struct error err = {0};
    enter();
    struct term_store *first = open_store();
    CU_ASSERT_EQUAL(term_store_open(directory, "redis", &second, &err), -EBUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "in use"));
    CU_ASSERT_EQUAL(term_store_open(directory, "other", &second, NULL), 0);
    term_store_close(&second);
    term_store_close(&first);
    first = open_store();
    term_store_close(&first);
    leave();
}

static void bad_names_and_directories_are_refused(void)
{
    static const char *const bad[] = {
        "",   ".",   "..",
        ".x", "a/b", "a b",
        "ä",  "a\n", "0123456789012345678901234567890123456789012345678901234567890123"};
    struct term_store *store;
    struct error err = {0};
    enter();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CU_ASSERT_EQUAL(term_store_open(directory, bad[i], &store, &err), -EINVAL);
    CU_ASSERT_EQUAL(term_store_open("/nonexistent/state", "redis", &store, &err), -ENOENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/nonexistent/state"));
    leave();
}

static void a_directory_that_can_not_be_written_is_refused_at_once(void)
{
    struct term_store *store;
    struct error err = {0};
    enter();
    CU_ASSERT_EQUAL(chmod(directory, 0555), 0);
    const bool root = geteuid() == 0;
    if (root)
        CU_ASSERT_EQUAL_FATAL(seteuid(65534), 0); /* root may write anywhere */
    CU_ASSERT_EQUAL(term_store_open(directory, "redis", &store, &err), -EACCES);
    if (root)
        CU_ASSERT_EQUAL_FATAL(seteuid(0), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, directory));
    leave();
}

static void a_failed_write_keeps_the_old_record(void)
{
    enter();
    struct term_store *store = open_store();
    CU_ASSERT_EQUAL(term_store_advance(store, 5, TERM_STANDBY, NULL), 0);
    struct rlimit before, none;
    getrlimit(RLIMIT_FSIZE, &before);
    none = before;
    none.rlim_cur = 0;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    struct error err = {0};
    const int rc = term_store_advance(store, 6, TERM_OWNER, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    CU_ASSERT_EQUAL(rc, -EFBIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "cannot write"));
    EXPECT_RECORD(store, 5, STANDBY);
    /* The failed step may be on the disk: nothing goes behind it any more, it may be retried. */
    CU_ASSERT_EQUAL(term_store_advance(store, 6, TERM_STANDBY, NULL), -ESTALE);
    CU_ASSERT_EQUAL(term_store_advance(store, 5, TERM_STANDBY, NULL), -ESTALE);
    CU_ASSERT_EQUAL(term_store_advance(store, 6, TERM_OWNER, NULL), 0);
    EXPECT_RECORD(store, 6, OWNER);
    term_store_close(&store);
    leave();
}

static const struct test_case cases[] = {
    {"a host that never took part is a standby of term 0",
     a_host_that_never_took_part_is_a_standby_of_term_0},
    {"what was advanced is there after a restart", what_was_advanced_is_there_after_a_restart},
    {"only the steps of the picture are allowed", only_the_steps_of_the_picture_are_allowed},
    {"term 0 is never owned nor lost", term_0_is_never_owned_nor_lost},
    {"the record is text an operator can read", the_record_is_text_an_operator_can_read},
    {"the record names the standby where there are several",
     the_record_names_the_standby_where_there_are_several},
    {"an owner's standby is written down", an_owner_s_standby_is_written_down},
    {"the longest record fits", the_longest_record_fits},
    {"a record cut at any byte or with any bit flipped is damaged",
     a_record_cut_at_any_byte_or_with_any_bit_flipped_is_damaged},
    {"a file cut at any byte is refused and left as it is",
     a_file_cut_at_any_byte_is_refused_and_left_as_it_is},
    {"a huge file is refused", a_huge_file_is_refused},
    {"the record of another VM is refused", the_record_of_another_vm_is_refused},
    {"two daemons of one VM cannot share a record", two_daemons_of_one_vm_cannot_share_a_record},
    {"bad names and directories are refused", bad_names_and_directories_are_refused},
    {"a directory that cannot be written is refused at once",
     a_directory_that_can_not_be_written_is_refused_at_once},
    {"a failed write keeps the old record", a_failed_write_keeps_the_old_record},
};

TEST_MAIN("term", cases)
