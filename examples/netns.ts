// Makes a network namespace, listens inside it, and shows that the port is taken there and free here. Needs root.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import {
  createNamespace,
  currentNamespace,
  deleteNamespace,
  listNamespaces,
  readSysctl,
  writeSysctl,
} from '../src/netns/index.ts';

const name = `ambient-example-${process.pid}`;
const pod = createNamespace(name);
try {
  using home = currentNamespace();
  console.log(`this thread is in net:[${home.inode}], ${name} is net:[${pod.inode}]`);
  console.log('ip netns would list:', listNamespaces().join(' '));

  writeSysctl(pod, 'net.ipv4.ip_forward', 1);
  console.log(
    `ip_forward: ${readSysctl(pod, 'net.ipv4.ip_forward')} there, ${readSysctl(home, 'net.ipv4.ip_forward')} here`,
  );

  const server = pod.run(() => createServer().listen(34_568));
  await once(server, 'listening');
  const answer = await once(connect(34_568, '127.0.0.1'), 'connect').catch((error) => error.code);
  console.log(`a server listens on port 34568 inside; a connect from here: ${answer}`);
  server.close();
} finally {
  pod.close();
  deleteNamespace(name);
}
console.log('deleted');
