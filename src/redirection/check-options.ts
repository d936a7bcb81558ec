import { parseIp } from '../ip/index.ts';
import { invalid } from './error.ts';
import type { NodeModeOptions } from './node-mode-options.ts';
import type { Pod } from './plan.ts';

/** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the option */
export function checkNodeModeOptions(options: NodeModeOptions): void {
  const op = 'nodeMode';
  checkIpv4(op, options.hostIp, 'hostIp');
  checkIpv4(op, options.ztunnelIp, 'ztunnelIp');
  checkDevice(op, options.ztunnelVeth, 'ztunnelVeth');
  if (options.ztunnelDevice !== undefined) checkDevice(op, options.ztunnelDevice, 'ztunnelDevice');
  if (options.name !== undefined && !/^[a-z][a-z0-9-]{0,30}$/.test(options.name)) {
    throw invalid(op, 'name', `${JSON.stringify(options.name)} is not 1 to 31 of a-z, 0-9 and "-", a letter first`);
  }
  const [first, last] = options.proxyPorts ?? [10240, 32767];
  if (![first, last].every((port) => Number.isInteger(port) && port >= 1024 && port <= 0xffff) || first > last) {
    throw invalid(op, 'proxyPorts', `${first} to ${last} is no range within 1024 to 65535`);
  }
  const port = options.tunnel?.kind === 'geneve' ? (options.tunnel.port ?? 6081) : 6081;
  if (!Number.isInteger(port) || port < 1 || port > 0xffff) throw invalid(op, 'tunnel.port', `${port} is no port`);
  const seen = new Set<string>();
  for (const [i, pod] of (options.pods ?? []).entries()) {
    checkPod(op, pod, `pods[${i}]`);
    if (seen.has(pod.ip)) throw invalid(op, `pods[${i}].ip`, `${pod.ip} is in the list twice`);
    seen.add(pod.ip);
  }
}

/** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the field under `field` */
export function checkPod(op: string, pod: Pod, field: string): void {
  checkIpv4(op, pod.ip, `${field}.ip`);
  checkDevice(op, pod.veth, `${field}.veth`);
  const { comment } = pod;
  if (comment === undefined) return;
  if (Buffer.byteLength(comment) > 127 || /[\0\n"]/.test(comment)) {
    throw invalid(op, `${field}.comment`, 'a comment has at most 127 bytes, and no NUL, line end or double quote');
  }
}

function checkIpv4(op: string, ip: string, field: string): void {
  if (parseIp(ip, field).family !== 4) throw invalid(op, field, `${ip} is not IPv4, and node mode knows no other`);
}

function checkDevice(op: string, name: string, field: string): void {
  const length = typeof name === 'string' ? Buffer.byteLength(name) : 0;
  if (length < 1 || length > 15 || /[\s/:\0]/.test(name) || name === '.' || name === '..') {
    throw invalid(op, field, `${JSON.stringify(name)} is no device name: 1 to 15 bytes without space, "/" or ":"`);
  }
}
