#include "test/guest/lib/args.h"

#include "test/guest/lib/runtime.h"

#define ARGS_MAX 512

static char arguments[ARGS_MAX];

void args_set(const char *line)
{
    for (unsigned i = 0; line && line[i] && i < ARGS_MAX - 1; i++)
        arguments[i] = line[i];
}

/* The character after "key=" of the first word with that key, or NULL. */
static const char *find(const char *key)
{
    for (const char *word = arguments; *word;) {
        const char *k = key;
        while (*k && *word == *k) {
            word++;
            k++;
        }
        if (!*k && *word == '=')
            return word + 1;
        while (*word && *word != ' ')
            word++;
        while (*word == ' ')
            word++;
    }
    return NULL;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return 16;
}

uint64_t args_number(const char *key, uint64_t fallback)
{
    const char *p = find(key);
    if (!p)
        return fallback;
    int base = 10;
    if (p[0] == '0' && p[1] == 'x') {
        base = 16;
        p += 2;
    }
    uint64_t value = 0;
    const char *first = p;
    for (; digit(*p) < base; p++)
        value = value * (uint64_t)base + (uint64_t)digit(*p);
    return p == first || (*p && *p != ' ') ? fallback : value;
}

bool args_string(const char *key, char *out, size_t size)
{
    const char *p = find(key);
    if (!p)
        return false;
    size_t used = 0;
    for (; *p && *p != ' ' && used + 1 < size; p++)
        out[used++] = *p;
    out[used] = '\0';
    return true;
}
