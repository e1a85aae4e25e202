# nuclr on an NVIDIA GPU: docker build -f containers/cuda.Dockerfile -t nuclr:cuda . (docker run --gpus all)
FROM python:3.13-slim-trixie

# The build of PyPI brings CUDA along; the host brings the driver.
RUN pip install --no-cache-dir torch==2.13.0
COPY containers/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt
COPY . /tmp/source
RUN pip install --no-cache-dir --no-deps /tmp/source/ndx-nuclr /tmp/source && rm -r /tmp/source

# Nobody needs to be root to read recordings.
RUN useradd --create-home --uid 1000 nuclr
USER 1000
WORKDIR /data
ENTRYPOINT ["nuclr"]
CMD ["--help"]
