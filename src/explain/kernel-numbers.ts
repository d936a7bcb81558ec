/** Numbers of `<linux/netfilter/nf_tables.h>` and its neighbours that explanations need, in the kernel's spelling. */

// enum nft_cmp_ops
export const NFT_CMP_EQ = 0;
export const NFT_CMP_NEQ = 1;
export const NFT_CMP_LT = 2;
export const NFT_CMP_LTE = 3;
export const NFT_CMP_GT = 4;
export const NFT_CMP_GTE = 5;

// enum nft_meta_keys
export const NFT_META_PROTOCOL = 1;
export const NFT_META_PRIORITY = 2;
export const NFT_META_MARK = 3;
export const NFT_META_IIF = 4;
export const NFT_META_OIF = 5;
export const NFT_META_IIFNAME = 6;
export const NFT_META_OIFNAME = 7;
export const NFT_META_SKUID = 10;
export const NFT_META_SKGID = 11;
export const NFT_META_NFTRACE = 12;
export const NFT_META_NFPROTO = 15;
export const NFT_META_L4PROTO = 16;

// enum nft_ct_keys
export const NFT_CT_STATE = 0;
export const NFT_CT_DIRECTION = 1;
export const NFT_CT_STATUS = 2;
export const NFT_CT_MARK = 3;
export const NFT_CT_ZONE = 17;

// enum nft_payload_bases
export const NFT_PAYLOAD_NETWORK_HEADER = 1;
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2;

// enum nft_fib_result, nft_fib_flags
export const NFT_FIB_RESULT_ADDRTYPE = 3;
export const NFTA_FIB_F_SADDR = 1;
export const NFTA_FIB_F_DADDR = 2;

// NF_CT_STATE_BIT of <linux/netfilter/nf_tables.h>'s NFT_CT_STATE
export const CT_STATE_BITS = { established: 2, new: 8, untracked: 64 } as const;

// <linux/netfilter.h>, <linux/if_ether.h>
export const NFPROTO_IPV4 = 2;
export const NFPROTO_IPV6 = 10;
export const ETH_P_IP = 0x0800;
export const ETH_P_IPV6 = 0x86dd;

export const IFNAMSIZ = 16;

/** Hook priorities of `<linux/netfilter_ipv4.h>`. */
export const NF_IP_PRI_CONNTRACK = -200;
export const NF_IP_PRI_NAT_DST = -100;
export const NF_IP_PRI_NAT_SRC = 100;

// <linux/rtnetlink.h>: what a fib expression leaves in the register
export const RTN_NUMBERS: Readonly<Record<string, number>> = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};
