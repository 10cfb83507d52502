/* Images on both engines, and the rules of steps. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "disk/image.h"
#include "test/support/runner.h"

#define SIZE (4u << 20)

static char path[] = "/tmp/kemari-image-XXXXXX";
static int file;

static void make_file(off_t size)
{
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    file = mkstemp(path);
    CU_ASSERT_FATAL(file >= 0);
    CU_ASSERT_EQUAL_FATAL(ftruncate(file, size), 0);
}

static void remove_file(void)
{
    fd_close(&file);
    unlink(path);
}

static struct disk_image *open_image(enum disk_engine engine)
{
    const struct disk_image_config config = {.path = path, .engine = engine};
    struct disk_image *image = NULL;
    struct error err = {0};
    if (disk_image_open(&config, &image, &err) < 0)
        fprintf(stderr, "%s\n", err.text);
    return image;
}

/* The engines of this host: the threads always, io_uring where it is allowed. */
static unsigned engines(enum disk_engine out[2])
{
    unsigned count = 0;
    make_file(SIZE);
    struct disk_image *image = NULL;
    const struct disk_image_config config = {.path = path, .engine = DISK_ENGINE_URING};
    if (disk_image_open(&config, &image, NULL) == 0)
        out[count++] = DISK_ENGINE_URING;
    else
        fprintf(stderr, "note: io_uring is refused here, only threads are tested\n");
    disk_image_close(&image);
    remove_file();
    out[count++] = DISK_ENGINE_THREADS;
    return count;
}

static int perform(struct disk_image *image, enum disk_op op, uint64_t offset, uint64_t size,
                   uint8_t *data)
{
    struct disk_io io = {.op = op, .offset = offset, .size = size, .data = data};
    return disk_image_perform(image, &io);
}

static void what_is_written_is_read(struct disk_image *image)
{
    static uint8_t out[DISK_DATA_MAX], in[DISK_DATA_MAX];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7 + i / 512);
    CU_ASSERT_EQUAL(perform(image, DISK_WRITE, SIZE - sizeof(out), sizeof(out), out), 0);
    CU_ASSERT_EQUAL(perform(image, DISK_FLUSH, 0, 0, NULL), 0);
    CU_ASSERT_EQUAL(perform(image, DISK_READ, SIZE - sizeof(in), sizeof(in), in), 0);
    CU_ASSERT_EQUAL(memcmp(in, out, sizeof(in)), 0);
    CU_ASSERT_EQUAL(perform(image, DISK_DISCARD, SIZE - sizeof(out), 4096, NULL), 0);
    CU_ASSERT_EQUAL(perform(image, DISK_WRITE_ZEROES, SIZE - sizeof(out) + 8192, 1024, NULL), 0);
    CU_ASSERT_EQUAL(perform(image, DISK_READ, SIZE - sizeof(in), sizeof(in), in), 0);
    memset(out, 0, 4096);
    memset(out + 8192, 0, 1024);
    CU_ASSERT_EQUAL(memcmp(in, out, sizeof(in)), 0);
    struct stat st;
    CU_ASSERT_EQUAL(fstat(file, &st), 0);
    CU_ASSERT_EQUAL(st.st_size, SIZE);
}

static void both_engines_read_and_write(void)
{
    enum disk_engine list[2];
    const unsigned count = engines(list);
    for (unsigned i = 0; i < count; i++) {
        make_file(SIZE);
        struct disk_image *image = open_image(list[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT_EQUAL(disk_image_size(image), SIZE);
        CU_ASSERT_STRING_EQUAL(disk_image_engine_name(image),
                               list[i] == DISK_ENGINE_URING ? "io_uring" : "threads");
        what_is_written_is_read(image);
        disk_image_close(&image);
        remove_file();
    }
}

#define MANY 1000

static int left;

static void count_down(struct disk_io *io)
{
    CU_ASSERT_EQUAL(io->result, 0);
    __atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST);
}

static void closing_waits_for_many_requests(void)
{
    enum disk_engine list[2];
    const unsigned count = engines(list);
    static struct disk_io ios[MANY];
    static uint8_t data[MANY][512];
    for (unsigned e = 0; e < count; e++) {
        make_file(SIZE);
        struct disk_image *image = open_image(list[e]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        left = MANY;
        for (unsigned i = 0; i < MANY; i++) {
            memset(data[i], (int)(i % 251) + 1, 512);
            ios[i] = (struct disk_io){.op = DISK_WRITE,
                                      .offset = i * 512ull,
                                      .size = 512,
                                      .data = data[i],
                                      .done = count_down};
            disk_image_submit(image, &ios[i]);
        }
        disk_image_close(&image);
        CU_ASSERT_EQUAL(left, 0);
        for (unsigned i = 0; i < MANY; i++) {
            uint8_t sector[512];
            CU_ASSERT_EQUAL(pread(file, sector, 512, i * 512ll), 512);
            CU_ASSERT_EQUAL(memcmp(sector, data[i], 512), 0);
        }
        remove_file();
    }
}

/* A limit on the file's size makes the kernel write less than asked, and then nothing: as a full
 * disk does. */
static void a_write_that_runs_out_of_space_fails_alone(void)
{
    enum disk_engine list[2];
    const unsigned count = engines(list);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    static uint8_t data[8192];
    for (unsigned e = 0; e < count; e++) {
        make_file(SIZE);
        struct disk_image *image = open_image(list[e]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        memset(data, 0x33, sizeof(data));
        const struct rlimit small = {.rlim_cur = 6144, .rlim_max = before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        CU_ASSERT_EQUAL(perform(image, DISK_WRITE, 0, sizeof(data), data), -EFBIG);
        CU_ASSERT_EQUAL(perform(image, DISK_WRITE, 0, 4096, data), 0);
        setrlimit(RLIMIT_FSIZE, &before);
        CU_ASSERT_EQUAL(perform(image, DISK_WRITE, 0, sizeof(data), data), 0);
        disk_image_close(&image);
        remove_file();
    }
    signal(SIGXFSZ, SIG_DFL);
}

static void a_file_cut_short_gives_errors(void)
{
    enum disk_engine list[2];
    const unsigned count = engines(list);
    uint8_t data[1024];
    for (unsigned e = 0; e < count; e++) {
        make_file(SIZE);
        struct disk_image *image = open_image(list[e]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT_EQUAL(ftruncate(file, 512), 0);
        CU_ASSERT_EQUAL(perform(image, DISK_READ, 0, 1024, data), -EIO);
        CU_ASSERT_EQUAL(perform(image, DISK_READ, 0, 512, data), 0);
        disk_image_close(&image);
        remove_file();
    }
}

static void the_environment_chooses_the_engine(void)
{
    make_file(SIZE);
    setenv("KEMARI_DISK_ENGINE", "threads", 1);
    struct disk_image *image = open_image(DISK_ENGINE_AUTO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(image);
    CU_ASSERT_STRING_EQUAL(disk_image_engine_name(image), "threads");
    disk_image_close(&image);
    unsetenv("KEMARI_DISK_ENGINE");
    remove_file();
}

static void bad_images_are_refused_with_a_sentence(void)
{
    const struct {
        const char *path;
        const char *says;
    } bad[] = {
        {"/nonexistent/disk.img", "No such file"}, {"/tmp", "directory"}, {"/dev/null", "neither"}};
    struct disk_image *image = NULL;
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct disk_image_config config = {.path = bad[i].path};
        CU_ASSERT(disk_image_open(&config, &image, &err) < 0);
        CU_ASSERT(strstr(err.text, bad[i].path) && strstr(err.text, bad[i].says));
    }
    const struct disk_image_config config = {.path = path};
    make_file(1000);
    CU_ASSERT_EQUAL(disk_image_open(&config, &image, &err), -EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "multiple of 512"));
    CU_ASSERT_EQUAL(ftruncate(file, 0), 0);
    CU_ASSERT_EQUAL(disk_image_open(&config, &image, &err), -EINVAL);
    CU_ASSERT_PTR_NULL(image);
    remove_file();
}

static void a_writable_image_is_opened_once(void)
{
    make_file(SIZE);
    struct disk_image *image = open_image(DISK_ENGINE_AUTO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(image);
    struct disk_image *second = NULL;
    struct error err = {0};
    struct disk_image_config config = {.path = path};
    CU_ASSERT_EQUAL(disk_image_open(&config, &second, &err), -EBUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "in use"));
    config.shared = true;
    CU_ASSERT_EQUAL(disk_image_open(&config, &second, &err), 0);
    disk_image_close(&second);
    disk_image_close(&image);
    config.shared = false;
    CU_ASSERT_EQUAL(disk_image_open(&config, &second, &err), 0);
    disk_image_close(&second);
    remove_file();
}

/* Of the descriptor that has the file open beside ours; the file is open once more. */
static int flags_of_image(void)
{
    struct stat ours, other;
    CU_ASSERT_EQUAL_FATAL(fstat(file, &ours), 0);
    for (int fd = 3; fd < 64; fd++)
        if (fd != file && fstat(fd, &other) == 0 && other.st_ino == ours.st_ino &&
            other.st_dev == ours.st_dev)
            return fcntl(fd, F_GETFL);
    return -1;
}

static void a_shared_image_is_read_and_written_past_every_cache(void)
{
    enum disk_engine list[2];
    const unsigned count = engines(list);
    for (unsigned i = 0; i < count; i++) {
        make_file(SIZE);
        const struct disk_image_config config = {.path = path, .engine = list[i], .shared = true};
        struct disk_image *one = NULL, *two = NULL;
        struct error err = {0};
        CU_ASSERT_EQUAL_FATAL(disk_image_open(&config, &one, &err), 0);
        const int flags = flags_of_image();
        CU_ASSERT_TRUE(flags != -1 && flags & O_DIRECT && flags & O_DSYNC && !(flags & O_NONBLOCK));
        CU_ASSERT_EQUAL_FATAL(disk_image_open(&config, &two, &err), 0); /* no lock */
        void *data = NULL;
        CU_ASSERT_EQUAL_FATAL(posix_memalign(&data, DISK_SECTOR, 8192), 0);
        memset(data, 5, 8192);
        struct disk_io io = {.op = DISK_WRITE, .offset = 512, .size = 1024, .data = data};
        CU_ASSERT_EQUAL(disk_image_perform(one, &io), 0);
        io = (struct disk_io){.op = DISK_DISCARD, .offset = 512, .size = 512, .durable = true};
        CU_ASSERT_EQUAL(disk_image_perform(one, &io), 0);
        io = (struct disk_io){.op = DISK_READ, .size = 8192, .data = data};
        CU_ASSERT_EQUAL(disk_image_perform(two, &io), 0);
        CU_ASSERT(((uint8_t *)data)[512] == 0 && ((uint8_t *)data)[1024] == 5);
        free(data);
        disk_image_close(&one);
        disk_image_close(&two);
        remove_file();
    }
}

static void steps_go_on_after_short_transfers(void)
{
    uint8_t data[2048];
    struct disk_io io = {.op = DISK_WRITE, .offset = 4096, .size = 2048, .data = data};
    disk_io_begin(&io);
    CU_ASSERT_FALSE(disk_io_advance(&io, 100));
    struct disk_step s = disk_io_step(&io);
    CU_ASSERT(s.kind == DISK_STEP_WRITE && s.offset == 4196 && s.size == 1948 &&
              s.data == data + 100);
    CU_ASSERT_FALSE(disk_io_advance(&io, -EINTR));
    CU_ASSERT_FALSE(disk_io_advance(&io, 1947));
    CU_ASSERT_TRUE(disk_io_advance(&io, -ENOSPC));
    CU_ASSERT_EQUAL(io.result, -ENOSPC);
    disk_io_begin(&io);
    CU_ASSERT_FALSE(disk_io_advance(&io, 2047));
    CU_ASSERT_TRUE(disk_io_advance(&io, 1));
    CU_ASSERT_EQUAL(io.result, 0);
    disk_io_begin(&io);
    CU_ASSERT_TRUE(disk_io_advance(&io, 0));
    CU_ASSERT_EQUAL(io.result, -EIO);
}

static void zeroes_are_written_where_there_are_no_holes(void)
{
    struct disk_io io = {.op = DISK_DISCARD, .offset = 512, .size = 65536 + 1024};
    disk_io_begin(&io);
    CU_ASSERT_EQUAL(disk_io_step(&io).kind, DISK_STEP_PUNCH);
    CU_ASSERT_FALSE(disk_io_advance(&io, -EOPNOTSUPP));
    struct disk_step s = disk_io_step(&io);
    CU_ASSERT(s.kind == DISK_STEP_WRITE && s.offset == 512 && s.size == 65536 && s.data[0] == 0);
    CU_ASSERT_FALSE(disk_io_advance(&io, 65536));
    s = disk_io_step(&io);
    CU_ASSERT(s.offset == 512 + 65536 && s.size == 1024);
    CU_ASSERT_TRUE(disk_io_advance(&io, 1024));
    CU_ASSERT_EQUAL(io.result, 0);
    disk_io_begin(&io);
    CU_ASSERT_TRUE(disk_io_advance(&io, -EIO));
    CU_ASSERT_EQUAL(io.result, -EIO);
    io.op = DISK_WRITE_ZEROES;
    disk_io_begin(&io);
    CU_ASSERT_EQUAL(disk_io_step(&io).kind, DISK_STEP_ZERO);
    io.may_unmap = true;
    CU_ASSERT_EQUAL(disk_io_step(&io).kind, DISK_STEP_PUNCH);
    CU_ASSERT_TRUE(disk_io_advance(&io, 0));
}

static void ranges_are_checked(void)
{
    uint8_t data[512];
    const struct disk_io bad[] = {
        {.op = DISK_READ, .offset = 0, .size = 0, .data = data},
        {.op = DISK_READ, .offset = 1, .size = 512, .data = data},
        {.op = DISK_READ, .offset = 0, .size = 511, .data = data},
        {.op = DISK_READ, .offset = 0, .size = 512},
        {.op = DISK_READ, .offset = 4096, .size = 512, .data = data},
        {.op = DISK_WRITE, .offset = UINT64_MAX - 511, .size = 512, .data = data},
        {.op = DISK_WRITE, .offset = 0, .size = DISK_DATA_MAX + 512, .data = data},
        {.op = DISK_DISCARD, .offset = 3584, .size = 1024},
        {.op = DISK_FLUSH, .offset = 0, .size = 512},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CU_ASSERT_FALSE(disk_io_is_valid(&bad[i], i == 6 ? 1 << 30 : 4096));
    const struct disk_io large = {.op = DISK_DISCARD, .offset = 0, .size = 1 << 30};
    CU_ASSERT_TRUE(disk_io_is_valid(&large, 1 << 30));
}

static const struct test_case cases[] = {
    {"both engines read and write", both_engines_read_and_write},
    {"closing waits for many requests", closing_waits_for_many_requests},
    {"a write that runs out of space fails alone", a_write_that_runs_out_of_space_fails_alone},
    {"a file cut short gives errors", a_file_cut_short_gives_errors},
    {"the environment chooses the engine", the_environment_chooses_the_engine},
    {"bad images are refused with a sentence", bad_images_are_refused_with_a_sentence},
    {"a writable image is opened once", a_writable_image_is_opened_once},
    {"a shared image is read and written past every cache",
     a_shared_image_is_read_and_written_past_every_cache},
    {"steps go on after short transfers", steps_go_on_after_short_transfers},
    {"zeroes are written where there are no holes", zeroes_are_written_where_there_are_no_holes},
    {"ranges are checked", ranges_are_checked},
};

TEST_MAIN("disk images", cases)
