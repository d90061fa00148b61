// Writes files to an archive with Go's archive/tar: writing FORMAT FOLDER ARCHIVE NAME...
package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	formats := map[string]tar.Format{"ustar": tar.FormatUSTAR, "pax": tar.FormatPAX, "gnu": tar.FormatGNU, "any": tar.FormatUnknown}
	archive, err := os.Create(os.Args[3])
	must(err)
	writer := tar.NewWriter(archive)
	for _, name := range os.Args[4:] {
		path := filepath.Join(os.Args[2], name)
		info, err := os.Lstat(path)
		must(err)
		link := ""
		if info.Mode()&os.ModeSymlink != 0 {
			link, err = os.Readlink(path)
			must(err)
		}
		header, err := tar.FileInfoHeader(info, link)
		must(err)
		header.Name = name
		header.Format = formats[os.Args[1]]
		must(writer.WriteHeader(header))
		if info.Mode().IsRegular() {
			file, err := os.Open(path)
			must(err)
			_, err = io.Copy(writer, file)
			must(err)
			must(file.Close())
		}
	}
	must(writer.Close())
	must(archive.Close())
}
