// Makes network namespaces without root, in a user namespace, by starting itself again in there. Needs no root; says why, where this
// kernel allows none.
import {
  createNamespace,
  inUserNamespace,
  listNamespaces,
  readSysctl,
  runInUserNamespace,
  userNamespaceSupport,
  writeSysctl,
} from '../src/netns/index.ts';

if (process.argv.includes('inside')) {
  console.log(`inside: uid ${process.getuid!()}, in a user namespace: ${inUserNamespace()}`);
  using pod = createNamespace('example-pod');
  writeSysctl(pod, 'net.ipv4.ip_forward', 1);
  console.log(`inside: namespaces ${listNamespaces()}, ip_forward ${readSysctl(pod, 'net.ipv4.ip_forward')}`);
} else {
  const support = await userNamespaceSupport();
  if (support.possible) {
    console.log(`outside: uid ${process.getuid!()}`);
    const args = [import.meta.filename, 'inside'];
    console.log('exit code', await runInUserNamespace({ command: process.execPath, args }));
    console.log('outside: is example-pod here?', listNamespaces().includes('example-pod'));
  } else console.log('not here:', support.reason);
}
