import { NETLINK_NETFILTER, NETLINK_ROUTE } from '../system/index.ts';

/** Whom a netlink socket speaks to, and whose numbering a message's type belongs to. */
export type NetlinkFamily = 'route' | 'netfilter' | 'sock-diag';

/** `<linux/netlink.h>` */
const NETLINK_SOCK_DIAG = 4;

/** The protocol of the socket, by family. */
export const netlinkProtocols: Readonly<Record<NetlinkFamily, number>> = {
  route: NETLINK_ROUTE,
  netfilter: NETLINK_NETFILTER,
  'sock-diag': NETLINK_SOCK_DIAG,
};
