import { parseCidr, tryParseIp } from '../ip/index.ts';
import { type LabDescription, labNames, namespaceName, vethName } from './description.ts';
import { invalid } from './errors.ts';

const MAX_DEVICE_BYTES = 15;

/** @throws {InvalidInputError} `ERR_LAB_INVALID`, `ERR_IP_CIDR`, naming the field */
export function checkDescription(description: LabDescription): void {
  const names = labNames(description);
  for (const name of names) {
    if (!/^[a-z0-9][a-z0-9-]{0,63}$/.test(name))
      throw invalid('name', `${JSON.stringify(name)} is not of a-z, 0-9 and -`);
    if (names.indexOf(name) !== names.lastIndexOf(name)) throw invalid('name', `${name} is there twice`);
    if (!/^[\w.-]{1,255}$/.test(namespaceName(description, name))) throw invalid('prefix', 'makes no namespace name');
  }
  parseCidr(description.clusterRange, 'clusterRange');
  const addresses = new Set<string>();
  const address = (ip: string, field: string) => {
    if (tryParseIp(ip)?.family !== 4) throw invalid(field, `${JSON.stringify(ip)} is no IPv4 address`);
    if (addresses.has(ip)) throw invalid(field, `${ip} is there twice`);
    addresses.add(ip);
  };
  const { outside, nodes, services } = description;
  address(outside.ip, 'outside.ip');
  outside.addresses?.forEach((ip, i) => {
    address(ip, `outside.addresses[${i}]`);
  });
  if (!Number.isInteger(outside.prefixLength) || outside.prefixLength < 1 || outside.prefixLength > 30) {
    throw invalid('outside.prefixLength', 'is no whole number from 1 to 30');
  }
  if (nodes.length === 0 || nodes.length > 64) throw invalid('nodes', 'there must be 1 to 64');
  for (const [n, node] of nodes.entries()) {
    const at = `nodes[${n}]`;
    address(node.ip, `${at}.ip`);
    address(node.gateway, `${at}.gateway`);
    parseCidr(node.podRange, `${at}.podRange`);
    const devices = new Set<string>(['eth0', 'lo', 'istioin', 'istioout']);
    const cable = (end: { name: string; veth?: string }, field: string) => {
      const veth = vethName(end);
      if (Buffer.byteLength(veth) > MAX_DEVICE_BYTES)
        throw invalid(field, `${veth} has more than ${MAX_DEVICE_BYTES} bytes`);
      if (devices.has(veth)) throw invalid(field, `${veth} is there twice on ${node.name}`);
      devices.add(veth);
    };
    address(node.ztunnel.ip, `${at}.ztunnel.ip`);
    cable(node.ztunnel, `${at}.ztunnel.veth`);
    for (const [p, pod] of node.pods.entries()) {
      address(pod.ip, `${at}.pods[${p}].ip`);
      cable(pod, `${at}.pods[${p}].veth`);
    }
  }
  for (const [i, { ip, port, endpoint }] of services.entries()) {
    address(ip, `services[${i}].ip`);
    for (const [field, value] of [['port', port] as const, ['endpoint.port', endpoint.port] as const]) {
      if (!Number.isInteger(value) || value < 1 || value > 65535)
        throw invalid(`services[${i}].${field}`, `${value} is no port`);
    }
    if (tryParseIp(endpoint.ip)?.family !== 4) throw invalid(`services[${i}].endpoint.ip`, 'is no IPv4 address');
  }
}
