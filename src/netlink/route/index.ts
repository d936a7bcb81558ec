/**
 * rtnetlink, what `ip` does: links, addresses, routes, policy rules and neighbours as plain objects. What a list gives can be given
 * to the add function.
 *
 * ```ts
 * import { openNetlink } from 'ambient-kit/netlink';
 * import { addAddress, addLink, addRoute, addRule, setLink } from 'ambient-kit/netlink/route';
 * import { openNamespace } from 'ambient-kit/netns';
 *
 * using node = openNamespace('node-a');
 * using pod = openNamespace('pod-a');
 * using netlink = openNetlink({ family: 'route', namespace: node });
 * addLink(netlink, { kind: 'veth', name: 'veth-pod', up: true, peer: { name: 'eth0', namespace: pod } });
 * addAddress(netlink, { device: 'veth-pod', ip: '10.1.0.1', prefixLength: 32 });
 * addRoute(netlink, { destination: '10.1.0.5/32', device: 'veth-pod', table: 100 });
 * addRule(netlink, { family: 4, priority: 101, fwmark: 0x100, fwmask: 0x1ff, table: 101 });
 * ```
 *
 * Every function sends its requests through a `Netlink` of family `route`, in whose namespace it works, and is done when it
 * returns. Bad input throws `ERR_NETLINK_INVALID`, `ERR_IP_ADDRESS` or `ERR_IP_CIDR` with the field's path, before anything is sent
 * that changes something. Links are known by name here; looking one up is a request of its own.
 *
 * @module netlink/route
 */

export {
  type AddressFilter,
  addAddress,
  deleteAddress,
  type LinkAddress,
  type ListedAddress,
  listAddresses,
} from './address.ts';
export {
  addLink,
  type DeleteOptions,
  deleteLink,
  getLink,
  type LinkChange,
  linkIndex,
  listLinks,
  moveLink,
  type RouteOptions,
  setLink,
} from './link.ts';
export type {
  BridgeLink,
  DummyLink,
  GeneveLink,
  Link,
  LinkSettings,
  LinkSpec,
  LinkState,
  NamespaceReference,
  OtherLink,
  VethLink,
  VethPeer,
  VxlanLink,
} from './link-model.ts';
export type { NeighbourState, RouteProtocol, RouteType, RuleAction, Scope } from './names.ts';
export {
  addNeighbour,
  deleteNeighbour,
  type ListedNeighbour,
  listNeighbours,
  type Neighbour,
  type NeighbourFilter,
  replaceNeighbour,
} from './neighbour.ts';
export {
  addRoute,
  deleteRoute,
  type ListedRoute,
  listRoutes,
  type NextHop,
  type Route,
  type RouteFilter,
  replaceRoute,
} from './route.ts';
export { addRule, deleteRule, type ListedRule, listRules, type PortRange, type Rule } from './rule.ts';
