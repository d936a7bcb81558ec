import { InvalidInputError } from '../../errors/index.ts';
import { type Cidr, type IpAddress, ipBytes, parseIp } from '../../ip/index.ts';
import { AF_INET, AF_INET6 } from '../../system/index.ts';

/** @returns an error with code ERR_NETLINK_INVALID that names the field at fault */
export function invalidInput(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op, field, message });
}

/**
 * Gives `name` back if the kernel would take it for an interface (`dev_valid_name` of net/core/dev.c), and if it would take it
 * as it stands: `%` makes it a pattern.
 *
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID`
 */
export function interfaceName(name: string, op: string, field: string): string {
  const bytes = typeof name === 'string' ? Buffer.byteLength(name) : 0;
  if (bytes === 0) throw invalidInput(op, field, 'an interface name is needed');
  if (bytes > 15)
    throw invalidInput(op, field, `an interface name has at most 15 bytes, ${JSON.stringify(name)} has ${bytes}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
  if (name === '.' || name === '..' || /[\s/:%\u0000-\u001f\u007f]/.test(name)) {
    throw invalidInput(op, field, `${JSON.stringify(name)} is no interface name`);
  }
  return name;
}

/** @throws {InvalidInputError} `ERR_NETLINK_INVALID` unless `value` is a whole number from `min` to `max` */
export function wholeNumber(value: number, min: number, max: number, op: string, field: string): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw invalidInput(op, field, `${value} is no whole number from ${min} to ${max}`);
}

/** The six bytes of `02:00:5e:10:00:01`. @throws {InvalidInputError} `ERR_NETLINK_INVALID` */
export function hardwareAddressBytes(text: string, op: string, field: string): Buffer {
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return Buffer.from(text.replaceAll(':', ''), 'hex');
  throw invalidInput(op, field, `${JSON.stringify(text)} is no hardware address of the form 02:00:5e:10:00:01`);
}

/** `02:00:5e:10:00:01`, for as many bytes as there are. */
export function formatHardwareAddress(bytes: Buffer): string {
  return bytes.toString('hex').replace(/..(?=.)/g, '$&:');
}

/** The address of `text`, which has to be of `family` where one is given. @throws {InvalidInputError} */
export function addressOfFamily(text: string, family: 4 | 6 | undefined, op: string, field: string): IpAddress {
  const ip = parseIp(text, field);
  if (family !== undefined && ip.family !== family) throw invalidInput(op, field, `${text} is not IPv${family}`);
  return ip;
}

/** The network of `cidr` in network byte order, 4 or 16 bytes. */
export function networkBytes(cidr: Cidr): Uint8Array {
  return ipBytes({ family: cidr.family, w0: cidr.n0, w1: cidr.n1, w2: cidr.n2, w3: cidr.n3 });
}

/** AF_INET or AF_INET6. */
export function addressFamily(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** The number that a kernel name stands for in `names`, or the number itself. @throws {InvalidInputError} */
export function numberNamed<Name extends string>(
  value: Name | number,
  names: Readonly<Record<Name, number>>,
  op: string,
  field: string,
): number {
  if (typeof value === 'number') return wholeNumber(value, 0, 255, op, field);
  if (Object.hasOwn(names, value)) return names[value];
  throw invalidInput(op, field, `${JSON.stringify(value)} is none of ${Object.keys(names).join(', ')}`);
}

/** The name that stands for `value` in `names`, or the number itself. */
export function nameNumbered<Name extends string>(value: number, names: Readonly<Record<Name, number>>): Name | number {
  for (const name in names) if (names[name] === value) return name;
  return value;
}
