/** Multicast groups of `<linux/rtnetlink.h>` and `<linux/netfilter/nfnetlink.h>`, in the kernel's spelling. */

export const RTNLGRP_LINK = 1;
export const RTNLGRP_NEIGH = 3;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV4_RULE = 8;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;
export const RTNLGRP_IPV6_RULE = 19;
/** A kernel parameter of `net.ipv4.conf` that the kernel announces: forwarding, rp_filter, proxy_arp. */
export const RTNLGRP_IPV4_NETCONF = 24;
/** The same of `net.ipv6.conf`. */
export const RTNLGRP_IPV6_NETCONF = 25;

export const NFNLGRP_CONNTRACK_NEW = 1;
export const NFNLGRP_CONNTRACK_UPDATE = 2;
export const NFNLGRP_CONNTRACK_DESTROY = 3;
export const NFNLGRP_NFTABLES = 7;
export const NFNLGRP_NFTRACE = 9;
