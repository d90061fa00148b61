// Writes files to an archive with one of npm's packages: writing.cjs DIALECT FOLDER ARCHIVE NAME...
const fs = require('fs')
const path = require('path')

const modules = process.env.KEYHOLE_TEST_NODE_MODULES
const [dialect, folder, archive, ...names] = process.argv.slice(2)

function byStream () {
  const pack = require(path.join(modules, 'tar-stream')).pack()
  for (const name of names) {
    const stat = fs.lstatSync(path.join(folder, name))
    const header = { name, mode: stat.mode & 0o777, mtime: stat.mtime, uid: stat.uid, gid: stat.gid }
    if (stat.isSymbolicLink()) {
      pack.entry({ ...header, type: 'symlink', linkname: fs.readlinkSync(path.join(folder, name)) })
    } else if (stat.isDirectory()) {
      pack.entry({ ...header, type: 'directory' })
    } else {
      pack.entry(header, fs.readFileSync(path.join(folder, name)))
    }
  }
  pack.finalize()
  pack.pipe(fs.createWriteStream(archive))
}

if (dialect === 'tar-stream') {
  byStream()
} else {
  const tar = require(path.join(modules, 'tar'))
  const options = { 'npm pax': {}, 'npm portable': { portable: true }, 'npm without pax': { noPax: true } }[dialect]
  tar.c({ sync: true, file: archive, cwd: folder, ...options }, names)
}
