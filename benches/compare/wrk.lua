-- Posts one and the same upload: what the sink can take where no client opens a file.
local boundary = "roe-batch-00000000000000000000000000000000"
local line = "--" .. boundary .. "\r\nContent-Disposition: form-data; name="
wrk.method = "POST"
wrk.path = "/v1/datasets/files/upload/"
wrk.headers["Authorization"] = "Bearer bench-key"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
wrk.body = line .. '"dataset_id"\r\n\r\n3f2b7a52-0000-4000-8000-000000000001\r\n'
  .. line .. '"file"; filename="invoice-00000000.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
  .. string.rep("x", 4096) .. "\r\n--" .. boundary .. "--\r\n"
