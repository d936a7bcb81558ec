import { formatIp, parseIp } from '../ip/index.ts';
import { invalid } from './error.ts';
import type { NodeModeOptions } from './node-mode-options.ts';
import { familiesOf, type IpFamily, type Pod, type RedirectionPlan } from './plan.ts';

/** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the option */
export function checkNodeModeOptions(options: NodeModeOptions): void {
  const op = 'nodeMode';
  checkIp(op, [4], options.hostIp, 'hostIp');
  checkIp(op, [4], options.ztunnelIp, 'ztunnelIp');
  checkIpv6Addresses(op, options);
  checkDevice(op, options.ztunnelVeth, 'ztunnelVeth');
  if (options.ztunnelDevice !== undefined) checkDevice(op, options.ztunnelDevice, 'ztunnelDevice');
  if (options.name !== undefined) checkPlanName(op, options.name);
  const [first, last] = options.proxyPorts ?? [10240, 32767];
  if (![first, last].every((port) => Number.isInteger(port) && port >= 1024 && port <= 0xffff) || first > last) {
    throw invalid(op, 'proxyPorts', `${first} to ${last} is no range within 1024 to 65535`);
  }
  const port = options.tunnel?.kind === 'geneve' ? (options.tunnel.port ?? 6081) : 6081;
  checkPort(op, port, 'tunnel.port');
  const families: readonly IpFamily[] = options.ztunnelIp6 === undefined ? [4] : [4, 6];
  checkPods(op, { families, ...(options.pods === undefined ? {} : { pods: options.pods }) }, 'pods', true);
}

/** Both or none: the node's own traffic needs an address to come from, the proxy's one to go to. */
function checkIpv6Addresses(op: string, { hostIp6, ztunnelIp6 }: NodeModeOptions): void {
  if (hostIp6 === undefined && ztunnelIp6 === undefined) return;
  checkIp(op, [6], hostIp6 ?? '', 'hostIp6');
  checkIp(op, [6], ztunnelIp6 ?? '', 'ztunnelIp6');
}

/** That every pod of a list is right, and in it once. @throws {InvalidInputError} as {@link checkPod} */
export function checkPods(
  op: string,
  plan: Pick<RedirectionPlan, 'families'> & { readonly pods?: readonly Pod[] },
  field: string,
  needsVeth: boolean,
): void {
  const seen = new Set<string>();
  for (const [i, pod] of (plan.pods ?? []).entries()) {
    checkAddressAndComment(op, familiesOf(plan), pod, `${field}[${i}]`);
    if (needsVeth || pod.veth !== undefined) checkDevice(op, pod.veth ?? '', `${field}[${i}].veth`);
    if (seen.has(pod.ip)) throw invalid(op, `${field}[${i}].ip`, `${pod.ip} is in the list twice`);
    seen.add(pod.ip);
  }
}

/** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the field under `field` */
export function checkPod(op: string, plan: RedirectionPlan, pod: Pod, field: string): void {
  checkAddressAndComment(op, familiesOf(plan), pod, field);
  if (plan.pods.sysctls.length > 0 || pod.veth !== undefined) checkDevice(op, pod.veth ?? '', `${field}.veth`);
}

function checkAddressAndComment(op: string, families: readonly IpFamily[], pod: Pod, field: string): void {
  checkIp(op, families, pod.ip, `${field}.ip`);
  const { comment } = pod;
  if (comment === undefined) return;
  if (Buffer.byteLength(comment) > 127 || /[\0\n"]/.test(comment)) {
    throw invalid(op, `${field}.comment`, 'a comment has at most 127 bytes, and no NUL, line end or double quote');
  }
}

/**
 * An address of one of these families, in canonical text: a set gives back no other, so another would never compare equal.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the field
 */
export function checkIp(op: string, families: readonly IpFamily[], ip: string, field: string): void {
  const parsed = parseIp(ip, field);
  if (!families.includes(parsed.family)) {
    throw invalid(op, field, `${ip} is IPv${parsed.family}, which is not what is wanted here`);
  }
  const canonical = formatIp(parsed);
  if (ip !== canonical) throw invalid(op, field, `${ip} is written ${canonical}`);
}

/** The name of a plan. @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` */
export function checkPlanName(op: string, name: string): void {
  if (/^[a-z][a-z0-9-]{0,30}$/.test(name)) return;
  throw invalid(op, 'name', `${JSON.stringify(name)} is not 1 to 31 of a-z, 0-9 and "-", a letter first`);
}

/** A port. @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the field */
export function checkPort(op: string, port: number, field: string): void {
  if (!Number.isInteger(port) || port < 1 || port > 0xffff) throw invalid(op, field, `${port} is not 1 to 65535`);
}

/** The name of a network device. @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the field */
export function checkDevice(op: string, name: string, field: string): void {
  const length = typeof name === 'string' ? Buffer.byteLength(name) : 0;
  if (length < 1 || length > 15 || /[\s/:\0]/.test(name) || name === '.' || name === '..') {
    throw invalid(op, field, `${JSON.stringify(name)} is no device name: 1 to 15 bytes without space, "/" or ":"`);
  }
}
