// What a Go programmer would write: 32 goroutines, net/http's client, each file streamed into a
// multipart body of known length.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

const dataset = "3f2b7a52-0000-4000-8000-000000000001"

func upload(client *http.Client, url, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	boundary := fmt.Sprintf("%x", random)
	head := fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=\"dataset_id\"\r\n\r\n%s\r\n"+
		"--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=%q\r\n"+
		"Content-Type: application/octet-stream\r\n\r\n", boundary, dataset, boundary, filepath.Base(path))
	tail := "\r\n--" + boundary + "--\r\n"
	body := io.MultiReader(bytes.NewReader([]byte(head)), file, bytes.NewReader([]byte(tail)))
	request, err := http.NewRequest("POST", url, body)
	if err != nil {
		return err
	}
	request.ContentLength = int64(len(head)) + stat.Size() + int64(len(tail))
	request.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	request.Header.Set("Authorization", "Bearer bench-key")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != 201 {
		return fmt.Errorf("%s: %s", path, answer.Status)
	}
	return nil
}

func main() {
	url, root := os.Args[1], os.Args[2]
	concurrency, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	paths := make(chan string, 1024)
	var all sync.WaitGroup
	for i := 0; i < concurrency; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for path := range paths {
				if err := upload(client, url, path); err != nil {
					panic(err)
				}
			}
		}()
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			paths <- path
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	close(paths)
	all.Wait()
}
