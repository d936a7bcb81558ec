// One host under many spellings: parses addresses, ranges and sockets as every module does, and shows what is refused and
// why. Needs no root.
import { canonicalIp, cidrContains, InvalidIpError, parseCidr, parseIp, parseSocketAddress } from '../src/ip/index.ts';

for (const spelling of ['::FFFF:10.1.0.5', '::ffff:a01:5', '10.1.0.5', '2001:DB8:0:0::1']) {
  console.log(spelling.padEnd(18), 'is', canonicalIp(spelling));
}

const pods = parseCidr('10.1.0.0/16');
for (const address of ['10.1.255.255', '10.2.0.0', '::ffff:10.1.0.1', 'fd00::1']) {
  console.log(address.padEnd(18), cidrContains(pods, parseIp(address)) ? 'is in' : 'is not in', pods.text);
}

const { ip, port } = parseSocketAddress('[fd00::1]:8080');
console.log('[fd00::1]:8080    ', 'is host', ip, 'and port', port);

// Spellings that other parsers take for something else: octal, short, with a zone, out of range.
for (const trick of ['010.1.0.5', '10.1.5', 'fe80::1%eth0', '10.0.0.300', '']) {
  try {
    parseIp(trick, 'source.ip');
    console.log(trick, 'was taken');
  } catch (error) {
    if (!(error instanceof InvalidIpError)) throw error;
    console.log(error.code, '|', error.message);
  }
}
