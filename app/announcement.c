#include "app/announcement.h"

#include <string.h>

void announcement_make(const uint8_t mac[6], uint8_t frame[ANNOUNCEMENT_SIZE])
{
    /* RARP, Ethernet, IPv4, address lengths 6 and 4, operation 3: request reverse. */
    static const uint8_t rarp[] = {0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3};
    memset(frame, 0, ANNOUNCEMENT_SIZE);
    uint8_t *ethernet = frame + ANNOUNCEMENT_HEADER;
    memset(ethernet, 0xff, 6);
    memcpy(ethernet + 6, mac, 6);
    memcpy(ethernet + 12, rarp, sizeof(rarp));
    memcpy(ethernet + 22, mac, 6); /* sender */
    memcpy(ethernet + 32, mac, 6); /* target */
}
