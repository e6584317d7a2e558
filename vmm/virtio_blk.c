/* SPDX-License-Identifier: MIT
 *
 * Block devices over images that lie in our own memory: "VIRTIO Version 1.2", section 5.2.
 * A request is done at once, with one copy between guest and image. One queue a disk;
 * sectors are 512 bytes; a last part of the image that is no whole sector is not seen. */
#include "virtio.h"

#define SECTOR 512u
#define BLK_ID_BYTES 20
#define BLK_SEGMENTS (VIRTIO_QUEUE_SIZE - 2) /* of data: a header and a status go with them */
#define ZEROES_SECTORS (VIRTIO_CHAIN_BYTES / SECTOR) /* of one request of zeroes at most */

/* Section 5.2.3. */
#define BLK_F_SEG_MAX (1u << 2)
#define BLK_F_RO (1u << 5)
#define BLK_F_FLUSH (1u << 9)
#define BLK_F_WRITE_ZEROES (1u << 14)

/* Section 5.2.6. */
enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_WRITE_ZEROES = 13 };
enum { BLK_OK = 0, BLK_ERROR = 1, BLK_UNSUPPORTED = 2 };
struct blk_header {
    uint32_t type, reserved;
    uint64_t sector;
};
struct blk_range {
    uint64_t sector;
    uint32_t sectors, flags; /* flag 1: may be unmapped, all others are reserved */
};

/* Section 5.2.4. */
struct blk_config {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t block_size;
    uint8_t physical, alignment;
    uint16_t io_min;
    uint32_t io_opt;
    uint8_t writeback, unused;
    uint16_t queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_alignment;
    uint32_t max_zeroes_sectors, max_zeroes_seg;
    uint8_t zeroes_unmap, unused1[3];
} __attribute__((packed));
_Static_assert(sizeof(struct blk_config) == 60, "configuration of a block device");

static struct blk {
    struct virtio virtio;
    struct blk_config config;
} blks[VM_DISKS];
static struct virtio_chain chain;

/* The image's bytes from a sector on; NULL unless they are all there. */
static uint8_t *blk_bytes(const struct disk *disk, uint64_t sector, uint64_t bytes)
{
    uint64_t sectors = disk->bytes / SECTOR;
    if (bytes % SECTOR || sector > sectors || bytes / SECTOR > sectors - sector) return NULL;
    return disk->data + sector * SECTOR;
}

static unsigned blk_zeroes(const struct disk *disk)
{
    struct blk_range range;
    if (disk->read_only || virtio_pull(&chain, &range, sizeof(range)) != sizeof(range))
        return BLK_ERROR;
    if (chain.out_bytes || range.flags & ~1u) return BLK_UNSUPPORTED;
    if (range.sectors > ZEROES_SECTORS) return BLK_ERROR;
    uint8_t *at = blk_bytes(disk, range.sector, (uint64_t)range.sectors * SECTOR);
    if (!at) return BLK_ERROR;
    memset(at, 0, (size_t)range.sectors * SECTOR);
    return BLK_OK;
}

static void blk_count(const struct disk *disk, uint64_t out, uint64_t in)
{
    if (!disk->io) return;
    disk->io->out += out != 0;
    disk->io->out_bytes += out;
    disk->io->in += in != 0;
    disk->io->in_bytes += in;
}

/* Does what the header says; *written: bytes put into the answer. */
static unsigned blk_request(const struct disk *disk, const struct blk_header *header, uint32_t room,
                            uint32_t *written)
{
    char id[BLK_ID_BYTES] = {0};
    uint8_t *at;
    switch (header->type) {
    case BLK_IN:
        if (!(at = blk_bytes(disk, header->sector, room))) return BLK_ERROR;
        *written = virtio_push(&chain, at, room);
        blk_count(disk, 0, room);
        return BLK_OK;
    case BLK_OUT:
        at = blk_bytes(disk, header->sector, chain.out_bytes);
        if (disk->read_only || !at) return BLK_ERROR;
        blk_count(disk, chain.out_bytes, 0);
        virtio_pull(&chain, at, chain.out_bytes);
        return BLK_OK;
    case BLK_FLUSH:
        return BLK_OK;
    case BLK_GET_ID:
        exo_strcpy(id, disk->name, sizeof(id));
        *written = virtio_push(&chain, id, EXO_MIN(room, sizeof(id)));
        return BLK_OK;
    case BLK_WRITE_ZEROES:
        return blk_zeroes(disk);
    }
    return BLK_UNSUPPORTED;
}

static void blk_work(struct virtio *device, unsigned index)
{
    struct virtio_queue *queue = &device->queue[index];
    while (virtio_next(queue, &chain)) {
        struct blk_header header;
        uint32_t written = 0;
        if (!chain.in_bytes || virtio_pull(&chain, &header, sizeof(header)) != sizeof(header)) {
            virtio_broken(device, "a request without header or status");
            break;
        }
        uint32_t room = chain.in_bytes - 1; /* the last byte is the status */
        uint8_t status = (uint8_t)blk_request(device->self, &header, room, &written);
        virtio_push(&chain, NULL, chain.in_bytes - 1);
        virtio_push(&chain, &status, 1);
        /* Bytes are counted from the answer's beginning: all of them were written, or the
         * driver cannot rely on more than what came before a gap. */
        virtio_put(queue, chain.head, written == room ? room + 1 : written);
    }
    virtio_publish(queue);
}

static const struct virtio_kind blk_kind = {
    .name = "block",
    .id = 2,
    .pci_class = 0x018000, /* mass storage, other */
    .queues = 1,
    .features = BLK_F_SEG_MAX | BLK_F_FLUSH | BLK_F_WRITE_ZEROES,
    .config_bytes = sizeof(struct blk_config),
    .work = blk_work,
};

void virtio_blk_add(struct disk *disk)
{
    struct blk *blk = blks;
    while (blk->virtio.self && blk->virtio.self != disk)
        if (++blk == blks + VM_DISKS) return;
    blk->config = (struct blk_config){.capacity = disk->bytes / SECTOR,
                                      .seg_max = BLK_SEGMENTS,
                                      .max_zeroes_sectors = ZEROES_SECTORS,
                                      .max_zeroes_seg = 1};
    blk->virtio.self = disk;
    blk->virtio.config = (uint8_t *)&blk->config;
    virtio_add(&blk->virtio, &blk_kind, disk->read_only ? BLK_F_RO : 0);
}
