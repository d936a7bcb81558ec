/** Numbers of `<linux/netfilter/ipset/ip_set.h>`, in the kernel's spelling so that they can be looked up there. */

/** What ipset 7 speaks; the kernel takes 6 as well. */
export const IPSET_PROTOCOL = 7;
/** Of a set's name, with its NUL. */
export const IPSET_MAXNAMELEN = 32;
/** Of a member's comment, in bytes, without its NUL. */
export const IPSET_MAX_COMMENT_SIZE = 255;

// enum ipset_cmd
export const IPSET_CMD_CREATE = 2;
export const IPSET_CMD_DESTROY = 3;
export const IPSET_CMD_FLUSH = 4;
export const IPSET_CMD_SWAP = 6;
export const IPSET_CMD_LIST = 7;
export const IPSET_CMD_ADD = 9;
export const IPSET_CMD_DEL = 10;
export const IPSET_CMD_HEADER = 12;

// Attributes at command level
export const IPSET_ATTR_PROTOCOL = 1;
export const IPSET_ATTR_SETNAME = 2;
export const IPSET_ATTR_TYPENAME = 3;
/** The same number: what a swap's second set is called by. */
export const IPSET_ATTR_SETNAME2 = 3;
export const IPSET_ATTR_REVISION = 4;
export const IPSET_ATTR_FAMILY = 5;
export const IPSET_ATTR_DATA = 7;
export const IPSET_ATTR_ADT = 8;
export const IPSET_ATTR_LINENO = 9;

// CADT attributes: of a set or a member
export const IPSET_ATTR_IP = 1;
export const IPSET_ATTR_CADT_FLAGS = 8;
// Of a set
export const IPSET_ATTR_HASHSIZE = 18;
export const IPSET_ATTR_MAXELEM = 19;
export const IPSET_ATTR_ELEMENTS = 24;
export const IPSET_ATTR_REFERENCES = 25;
export const IPSET_ATTR_MEMSIZE = 26;
// Of a member
export const IPSET_ATTR_COMMENT = 26;

// Inside IPSET_ATTR_IP
export const IPSET_ATTR_IPADDR_IPV4 = 1;
export const IPSET_ATTR_IPADDR_IPV6 = 2;

// enum ipset_cadt_flags
export const IPSET_FLAG_WITH_COMMENT = 1 << 4;

// enum ipset_errno, beyond errno's own range; and the first of hash types' own
export const IPSET_ERR_PROTOCOL = 4097;
export const IPSET_ERR_FIND_TYPE = 4098;
export const IPSET_ERR_MAX_SETS = 4099;
export const IPSET_ERR_BUSY = 4100;
export const IPSET_ERR_EXIST_SETNAME2 = 4101;
export const IPSET_ERR_TYPE_MISMATCH = 4102;
export const IPSET_ERR_EXIST = 4103;
export const IPSET_ERR_INVALID_FAMILY = 4106;
export const IPSET_ERR_REFERENCED = 4108;
export const IPSET_ERR_IPADDR_IPV4 = 4109;
export const IPSET_ERR_IPADDR_IPV6 = 4110;
export const IPSET_ERR_COMMENT = 4112;
export const IPSET_ERR_HASH_FULL = 4352;

/** The revision of hash:ip that this library asks for: the first with comments (Linux 3.14). Later kernels take it too. */
export const HASH_IP_REVISION = 2;
