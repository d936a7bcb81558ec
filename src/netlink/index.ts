/**
 * Netlink, the kernel's own interface to network configuration: a codec, a socket, and under it `netlink/route` (links, addresses,
 * routes, rules, neighbours), `netlink/nftables` and `netlink/conntrack`.
 *
 * ```ts
 * import { AttributeReader, MessageWriter, NLM_F_DUMP, openNetlink } from 'ambient-kit/netlink';
 *
 * using netlink = openNetlink({ family: 'route' });
 * const dump = new MessageWriter().begin(18, NLM_F_DUMP).bytes(new Uint8Array(16)).end();  // RTM_GETLINK, struct ifinfomsg
 * for (const { payload } of netlink.request(dump.finish())) {
 *   const attributes = new AttributeReader(payload, 16);
 *   while (attributes.next()) if (attributes.type === 3) console.log(attributes.string()); // IFLA_IFNAME
 *   attributes.check();
 * }
 * ```
 *
 * Requests are synchronous: the kernel answers them before `sendmsg` returns, and a socket is bound to the namespace it was made in.
 * `AMBIENT_NETLINK_DEBUG=1` prints every message to stderr in libmnl's form, `=nft` as `nft --debug=netlink` does.
 *
 * @module netlink
 */

export { AttributeReader } from './attribute-reader.ts';
export * from './constants.ts';
export { type FakeAnswer, FakeNetlink, type FakeRequest } from './fake-netlink.ts';
export type { NetlinkFamily } from './family.ts';
export { messageEnd, type NetlinkMessage, readMessages } from './message-reader.ts';
export { formatMessages, messageTypeName } from './message-text.ts';
export { MessageWriter, type MessageWriterOptions } from './message-writer.ts';
export type { Netlink, NetlinkRequestOptions } from './netlink.ts';
export { NetlinkError, type NetlinkErrorInit } from './netlink-error.ts';
export { type NetlinkOptions, openNetlink } from './netlink-socket.ts';
export { listTcpSockets, TCP_STATES, type TcpSocket, type TcpState } from './sock-diag.ts';
export {
  type NotificationOptions,
  type NotificationSource,
  type Notifications,
  openNotifications,
  type SubscribeOptions,
  type Subscription,
  subscribe,
} from './subscribe.ts';
export { FakeNotifications } from './subscribe-fake.ts';
export * from './subscribe-groups.ts';
