/* The timeline of a drill as a picture. The steps of a failover are milliseconds, and being
 * protected again takes seconds: the axis is logarithmic, with its first unit (up to 1 ms) as wide
 * as each power of ten. */
#include <inttypes.h>
#include <math.h>

#include "app/drill_report.h"
#include "control/render.h"

#define WIDTH   900
#define HEIGHT  260
#define LEFT    40
#define RIGHT   860
#define AXIS    150
#define DECADES 5 /* 1 ms ... 100 s */
#define ROW     18

static double place(int64_t ns)
{
    const double ms = (double)ns / 1e6;
    const double decades = ms <= 1 ? ms : 1 + log10(ms);
    const double share = decades / (DECADES + 1);
    return LEFT + (RIGHT - LEFT) * (share > 1 ? 1 : share);
}

static void print_escaped(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

static void print_axis(FILE *out)
{
    static const char *const labels[] = {"0", "1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"};
    fprintf(out, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#444\"/>\n", LEFT, AXIS,
            RIGHT, AXIS);
    for (int i = 0; i <= DECADES + 1; i++) {
        const int x = LEFT + (RIGHT - LEFT) * i / (DECADES + 1);
        fprintf(out,
                "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#444\"/>"
                "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" fill=\"#444\">%s</text>\n",
                x, AXIS - 4, x, AXIS + 4, x, AXIS + 18, labels[i]);
    }
}

/* A bar between two steps, if both happened. */
static void print_span(const struct drill_report *r, int64_t from, enum drill_step to,
                       const char *colour, FILE *out)
{
    if (from < 0 || r->steps[to] <= from)
        return;
    fprintf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>\n",
            place(from), AXIS - 16, place(r->steps[to]) - place(from), colour);
}

static void print_steps(const struct drill_report *r, FILE *out)
{
    static const char *const labels[DRILL_STEP_COUNT] = {
        "detected", "granted", "promoted", "first output", "healed", "protected again"};
    char amount[CONTROL_AMOUNT_MAX];
    for (int i = 0; i < DRILL_STEP_COUNT; i++) {
        if (r->steps[i] < 0)
            continue;
        const double x = place(r->steps[i]);
        const int y = AXIS - 24 - ROW * (DRILL_STEP_COUNT - 1 - i);
        fprintf(out,
                "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#888\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s %s</text>\n",
                x, y + 3, x, AXIS, x, y, x > (LEFT + RIGHT) / 2.0 ? "end" : "start", labels[i],
                control_format_time((uint64_t)r->steps[i], amount));
    }
}

void drill_report_svg(const struct drill_report *r, FILE *out)
{
    char amount[CONTROL_AMOUNT_MAX];
    const int64_t silence_end =
        r->steps[DRILL_FIRST_OUTPUT] >= 0 ? r->steps[DRILL_FIRST_OUTPUT] : r->steps[DRILL_PROMOTED];
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
            "<text x=\"%d\" y=\"22\" font-size=\"15\" fill=\"%s\">",
            WIDTH, HEIGHT, LEFT, r->survived ? "#1a7a1a" : "#b01010");
    print_escaped(r->id, out);
    fprintf(out, ": %s</text>\n", r->survived ? "survived" : "not survived");
    print_axis(out);
    print_span(r, 0, DRILL_DETECTED, "#e0b0b0", out);
    print_span(r, r->steps[DRILL_DETECTED], DRILL_PROMOTED, "#f0d090", out);
    print_span(r, r->steps[DRILL_PROMOTED], DRILL_FIRST_OUTPUT, "#f0e8a0", out);
    print_span(r, silence_end >= 0 ? silence_end : 0, DRILL_PROTECTED, "#b8d0f0", out);
    print_steps(r, out);
    fprintf(out, "<text x=\"%d\" y=\"%d\">", LEFT, AXIS + 48);
    print_escaped(r->why, out);
    fprintf(out,
            "</text>\n<text x=\"%d\" y=\"%d\">term %" PRIu64 " to %" PRIu64 ", at most %" PRIu64
            " outputs held, %s resynchronised</text>\n</svg>\n",
            LEFT, AXIS + 68, r->term_before, r->term_after, r->held_frames,
            control_format_bytes(r->resync_bytes, amount));
}
