/** Numbers of the kernel's headers that explanations need, in the kernel's spelling: those that codecs have too come from there. */

import { ROUTE_TYPES } from '../netlink/route/names.ts';

export { NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC } from '../netlink/nftables/chain.ts';
export { NFPROTO_IPV4, NFPROTO_IPV6 } from '../netlink/nftables/constants.ts';
export {
  NFT_CMP_EQ,
  NFT_CMP_GT,
  NFT_CMP_GTE,
  NFT_CMP_LT,
  NFT_CMP_LTE,
  NFT_CMP_NEQ,
} from '../netlink/nftables/expressions/cmp.ts';
export {
  IP_CT_DIR_ORIGINAL,
  IP_CT_DIR_REPLY,
  NFT_CT_DIRECTION,
  NFT_CT_DST,
  NFT_CT_MARK,
  NFT_CT_SRC,
  NFT_CT_SRC_IP,
  NFT_CT_SRC_IP6,
  NFT_CT_STATE,
  NFT_CT_STATUS,
  NFT_CT_ZONE,
} from '../netlink/nftables/expressions/ct.ts';
export {
  NFT_FIB_RESULT_ADDRTYPE,
  NFT_FIB_RESULT_OIFNAME,
  NFTA_FIB_F_DADDR,
  NFTA_FIB_F_IIF,
  NFTA_FIB_F_MARK,
  NFTA_FIB_F_OIF,
  NFTA_FIB_F_SADDR,
} from '../netlink/nftables/expressions/fib.ts';
export {
  NFT_META_IIF,
  NFT_META_IIFNAME,
  NFT_META_L4PROTO,
  NFT_META_MARK,
  NFT_META_NFPROTO,
  NFT_META_NFTRACE,
  NFT_META_OIF,
  NFT_META_OIFNAME,
  NFT_META_SKGID,
  NFT_META_SKUID,
} from '../netlink/nftables/expressions/meta.ts';
export { NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER } from '../netlink/nftables/expressions/payload.ts';
export { ETH_P_IP, ETH_P_IPV6 } from '../system/constants.ts';

// enum nft_meta_keys
export const NFT_META_PROTOCOL = 1;
export const NFT_META_PRIORITY = 2;
export const NFT_META_IIFTYPE = 8;
export const NFT_META_OIFTYPE = 9;
export const NFT_META_PRANDOM = 24;
export const NFT_META_IIFKIND = 26;
export const NFT_META_OIFKIND = 27;

// enum nft_ct_keys
export const NFT_CT_L3PROTOCOL = 7;
export const NFT_CT_PROTOCOL = 10;
export const NFT_CT_PROTO_SRC = 11;
export const NFT_CT_PROTO_DST = 12;
export const NFT_CT_DST_IP = 20;
export const NFT_CT_DST_IP6 = 22;

// enum nft_fib_flags
export const NFTA_FIB_F_PRESENT = 32;

// NF_CT_STATE_BIT of <linux/netfilter/nf_tables.h>'s NFT_CT_STATE
export const CT_STATE_BITS = { established: 2, new: 8, untracked: 64 } as const;

export const IFNAMSIZ = 16;

/** Hook priorities of `<linux/netfilter_ipv4.h>`. */
export const NF_IP_PRI_CONNTRACK = -200;

const { throw: _never, ...answers } = ROUTE_TYPES;
/** What a lookup of a route leaves in the register of a fib expression: `throw` sends the lookup on, and never comes out of it. */
export const RTN_NUMBERS: Readonly<Record<string, number>> = answers;
